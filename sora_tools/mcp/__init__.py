"""The same two tools for MCP clients, over stdio and streamable HTTP (extra ``mcp``).

Rule: the tools are LangChain's, called as an agent calls them, and this package only translates. So what a model may
say, what it is told, the 45 seconds of a call and what is the operator's are written once, in :mod:`sora_tools.tools`.
"""

from __future__ import annotations

try:
    from .calls import server, tools
    from .serving import serve_http, serve_stdio
except ImportError as error:
    raise ImportError("sora_tools.mcp needs version 2.3 of MCP's SDK: pip install 'sora-tools[mcp]'") from error

__all__ = ["serve_http", "serve_stdio", "server", "tools"]
