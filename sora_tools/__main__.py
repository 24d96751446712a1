"""The `sora-tools` command, and `python -m sora_tools`: the command line, quiet when interrupted in loading."""

from __future__ import annotations

try:
    from .cli import main
except KeyboardInterrupt:
    raise SystemExit(130) from None

if __name__ == "__main__":
    main()
