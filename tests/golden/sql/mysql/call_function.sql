SELECT `f`(%(p0)s)
