"""Two folders of images for the same prompts: is the second better?"""
