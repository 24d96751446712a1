"""Sora and AsyncSora: the two drivers that grant what a flow wishes for.

Rules. A driver decides nothing. A request on the wire is never torn down by its caller, because httpx 0.28 loses the
connections of cancelled requests (httpcore issue 1093): a caller who goes leaves behind a look that is closed a few
seconds later, or a create that is carried to its end and written down. Creates travel on connections that are never
reused, so that a dying keep-alive connection cannot swallow one. Looks and creates pass through two gates, because a
create that waits for its own looks must not stand in their way. Only this package knows httpx.
"""
