"""The one exception that a person, not a programmer, is meant to read."""


class SelfTalkError(Exception):
    """Something the user can put right.

    Its text is one or two sentences: what is wrong and the next thing to do. The
    interface and the command line show the text alone; the log keeps the traceback.
    """
