"""What runs in the other Python, the one that has `verifiers`: loads tasksets, calls their tools and scores answers.

It imports nothing of rao and little of that package's, and is started by `process.py`, which also says what is sent.
"""
