"""audiolm-evaluator: streams annotations through an audio-language model, writes submissions, scores them.

Nothing is re-exported here: importing the package costs nothing, and each room is imported by its own name.
"""
