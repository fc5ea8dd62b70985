"""Scoring and generating on many machines, each input exactly once.

finding    which shards there are: files of rows, images of folders
shards     where they are, and their rows in blocks
store      where the output goes: a folder, or an address; what is there of each shard
score      the run of a scorer over shards, by Ray or by plain processes, and its check at the end
ray_data   the plan of Ray Data, and the cluster that it runs on
generate   the plan of `images generate`, on Ray
"""
