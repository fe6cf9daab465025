"""How animators come to be: data sets, the diagram's losses, the loop, measures. Not shipped."""
