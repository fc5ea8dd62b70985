"""Compare text-to-image models by the images that they make for a suite of prompts.

run          images in, a result out   verify   whether a result is true of its images
result       the scores of one model, and what several results must share

leaderboard  ranks of many models
compare      one folder of images against another
studies      numbers of prompts, colours, metrics of distributions
"""
