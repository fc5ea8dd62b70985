"""Images for prompts: generators, runs that make or bring images, and which image belongs to which prompt.

contract     the promises of a generator           painter, diffusion, openai_api, command, captions   one kind each
plan         which images a run makes              run       making them, killed and gone on with
repository   weights that are pinned               retrieval   the image of a folder that fits a prompt best
layout       the image of each prompt in a folder  check     what is wrong with images, on one page
"""
