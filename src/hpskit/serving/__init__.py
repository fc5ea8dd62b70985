"""Scoring as a service: one process, one copy of the weights, requests of many clients in one queue.

models     the scorers that are served, within a budget of memory
batching   the queue: what is let in, decoding, steps of the network, per-image errors, the watchdog, the end
reading    from a request's body to images and prompts; images at addresses
app        routes, keys, figures, log
wires      the protocols of other reward servers
client     who asks: sync and async
"""
