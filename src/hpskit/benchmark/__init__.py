"""Compare text-to-image models by the images that they make for a suite of prompts.

    suites       the prompts               layout       which image belongs to which prompt
    run          images in, a result out   scores       each score once, kept through a kill
    result       what a model scored       verify       whether that is true of its images
    together     what several results must share

    leaderboard  ranks of many models
    comparison   one model against another
    studies      numbers of prompts, colours, metrics of distributions

The folders build on the modules beside them and know nothing of one another.
"""
