"""Whether the answer to a request may be kept and served to another asker later.

The rules (`said`, `chance`, `live`, `personal`, `done`, `elsewhere`) are tables with examples. What they do not know, a
small learned part judges by the words (`learned`), and doubt is a refusal.
"""

from millrace.caches.reusable.reusable import reusable

__all__ = ["reusable"]
