"""Networks that score images: their names, their weights, and one module for each kind of network.

- `registry`: which models there are, and which class runs each kind.
- `network`: what a network must offer. `loading`: from a name or a file to a network.
- `store`: files on this machine. `checkpoint`: tensors in a file. `training_record`: prompts that a model has seen.
- `architecture`: networks of open_clip, empty and filled. `clip`: HPS v1, HPS v2 and CLIP score on them. `packed`: the
  same in bfloat16 on a CPU.
- `mini`, `pickscore`, `aesthetic`, `imagereward`, `random_scores`: one further scorer each. `hpsv3`, `vqascore`: two
  more, on `qwen`, which reads image and prompt together.
- `plugins`: scorers that other people wrote.

A new scorer is one entry in `registry.MODELS`. If its network is new, it is also one module with a class derived from
`network.Network`, and one line in `registry.NETWORKS`.
"""
