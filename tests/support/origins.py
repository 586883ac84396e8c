"""Origins that resemble `https://app.example` and are not it."""

LOOKALIKES = [
    "null",
    "",
    "https://evil.example",
    "http://app.example",
    "https://app.example:444",
    "https://app.example.evil.example",
    "https://evil-app.example",
    "https://sub.app.example",
    "https://app.example.",
    "https://app.example/",
    "https://APP.example/",
    "https://app.example@evil.example",
    "https://evil.example@app.example",
    "https://evil.example#https://app.example",
    "https://evil.example/https://app.example",
    "https://app.example https://evil.example",
    "https://app.example\thttps://evil.example",
    "https://app\u200b.example",
    "https://аpp.example",  # a Cyrillic а
    "wss://app.example",
    "//app.example",
    "app.example",
]
