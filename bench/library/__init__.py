"""The library against other embedded stores: one run, each in processes of its own, in alternation, at one durability.

What counts is the smallest CPU of many short laps, as in `macro`: what disturbs a machine only ever adds.
"""
