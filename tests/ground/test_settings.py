"""The configuration: what loads, and that every fault is named with its path, all of them in one run."""

import copy
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from millrace import settings
from millrace.settings import Fault, Settings, SettingsError
from millrace.types import Strategy
from tests.support.paths import REPOSITORY
from tests.support.server import configuration_for

Tree = dict[str, Any]


def build(*changes: tuple[str, Any], environ: dict[str, str] | None = None) -> Settings:
    """Build a sound configuration with some keys, named by their paths, set to other values (`...`: left out)."""
    changed = copy.deepcopy(configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"))
    for path, value in changes:
        *sections, key = path.split(".")
        section = changed
        for name in sections:
            section = section.setdefault(name, {})
        if value is ...:
            del section[key]
        else:
            section[key] = value
    return settings.build(changed, environ or {})


def faults_of(load: Callable[[], object]) -> list[Fault]:
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value) == "\n".join(map(str, raised.value.faults))
    return raised.value.faults


def test_the_example_loads_as_it_stands() -> None:
    """The repository's file needs no variable and no edit, and says what it means."""
    loaded = settings.load(REPOSITORY / "millrace.toml", {})
    assert (loaded.server.host, loaded.server.port, loaded.server.data_dir) == ("127.0.0.1", 8000, ".millrace")
    assert loaded.funnel.strategy is Strategy.AUTO
    assert (loaded.models.small.model, loaded.models.large.model) == ("small-fast-model", "large-strong-model")
    assert loaded.models.large.price.cached_input == Decimal("1.25")
    assert loaded.models.aliases == {"*": "auto"}


def test_the_example_names_every_section_of_the_settings() -> None:
    """A section that is not in the example would never be found."""
    example = tomllib.loads((REPOSITORY / "millrace.toml").read_text("utf-8"))
    assert set(example) == set(Settings.__struct_fields__)


PRICELESS: list[Any] = [-1, -0.5, float("nan"), float("inf"), True, "-0.01", "NaN", "Infinity", "cheap", "", []]
FAULTY: list[tuple[str, Any, str, str]] = [  # key, value, the fault's path, words of its message
    ("server.port", "8000", "server.port", "expected a whole number, got '8000'"),
    ("server.port", True, "server.port", "expected a whole number, got True"),
    ("server.port", 70_000, "server.port", "expected a whole number <= 65535, got 70000"),
    ("server.data_dir", 3, "server.data_dir", "expected a text in quotes, got 3"),
    ("cache.exact", "yes", "cache.exact", "expected true or false, got 'yes'"),
    ("cache.ttl_s", 0, "cache.ttl_s", "expected a number > 0"),
    ("cache.ttl_s", float("nan"), "cache.ttl_s", "expected a number > 0"),
    ("server", 3, "server", "expected a section, got a number; write [server]"),
    ("models.small", [], "models.small", "expected a section, got an array; write [models.small]"),
    ("models.small.price", "0.15", "models.small.price", "expected a section, got a string"),
    ("server.prot", 1, "server.prot", "unknown key; did you mean port?"),
    ("models.small.base_ulr", "", "models.small.base_ulr", "did you mean base_url?"),
    ("modles", {}, "modles", "did you mean models?"),
    ("cache.zzz", 1, "cache.zzz", "unknown key; known keys: exact, semantic"),
    ("models", ..., "models", "missing; add a section [models]"),
    ("models.large", ..., "models.large", "missing; add a section [models.large]"),
    ("models.small.price", ..., "models.small.price", 'price = { input = "0.15", output = "0.60" }'),
    ("models.large.price.output", ..., "models.large.price.output", "dollars per million tokens"),
    ("models.small.upstream", ..., "models.small.upstream", 'write upstream = "openai"'),
    ("models.small.base_url", ..., "models.small.base_url", 'write base_url = "https://HOST/v1"'),
    ("models.small.model", ..., "models.small.model", "missing; write the provider's name"),
    ("models.small.upstream", "opnai", "models.small.upstream", "'opnai' is not one of openai"),
    (
        "models.small.quirks.max_tokens_field",
        "max",
        "models.small.quirks.max_tokens_field",
        "max_tokens, max_completion_tokens",
    ),
    *(
        ("models.small.base_url", url, "models.small.base_url", "is not a URL; write http://HOST")
        for url in ("127.0.0.1:9001", "ftp://host/v1", "http://", "http://h:99999/v1", "http://h:x/v1", "http://[/v1")
    ),
    ("models.small.tier_prices", "0.15", "models.small.tier_prices", "expected a section"),
    *(
        ("models.small.tier_prices", {tier: price}, f"models.small.tier_prices.{path}", words)
        for tier, price, path, words in (
            ("flex", {"input": "1"}, "flex.output", "dollars per million tokens"),
            ("flex", {"input": "1", "output": "-1"}, "flex.output", 'expected dollars such as "0.15"'),
            ("flex", {"input": "1", "output": "1", "cached": "1"}, "flex.cached", "did you mean cached_input?"),
            ("flex", "1", "flex", "expected a section, got a string"),
            ("auto", {"input": "1", "output": "1"}, "auto", "charged at the model's price; write it there"),
        )
    ),
    ("funnel.strategy", "cheapest", "funnel.strategy", "'cheapest' is not one of auto, cascade, small, large"),
    ("funnel.strategy", ["auto"], "funnel.strategy", "is not one of auto, cascade, small, large"),
    ("models.small.api_key_env", "SMALL_KEY", "models.small.api_key_env", "export SMALL_KEY="),
    (
        "models.small.api_key_env",
        "sk-secret",
        "models.small.api_key_env",
        "the name of the variable that holds the key",
    ),
    ("models.aliases.fast", "smal", "models.aliases.fast", "'smal' names no model; write one of auto, small, large"),
    ("models.aliases", {"fast": 1}, "models.aliases", "expected a text in quotes"),
    ("guards.patterns", ["ACME-[0-9]+"], "guards.patterns", "'ACME-[0-9]+' may match any number of characters"),
    ("guards.patterns", ["a{65}"], "guards.patterns", "may match 65 characters, and a guard holds back 64 at most"),
    ("guards.patterns", ["("], "guards.patterns", "'(' is no regular expression"),
    ("guards.words", [""], "guards.words", "'' is empty; write a word, or some"),
    *(
        ("models.large.price.input", price, "models.large.price.input", 'expected dollars such as "0.15", got ')
        for price in PRICELESS
    ),
    *(
        ("server.origins", [origin], "server.origins", f"'{origin}' is no origin; write it as browsers do")
        for origin in ("*", "null", "app.example", "https://app.example/", "https://*.app.example", "ftp://app.example")
    ),
    ("server.origins", "https://app.example", "server.origins", "expected a list in brackets"),
    ("server.max_connections", 0, "server.max_connections", "expected a whole number >= 1"),
    ("server.handshake_timeout_s", 0, "server.handshake_timeout_s", "expected a number > 0"),
    ("limits.in_flight", 0, "limits.in_flight", "expected a whole number >= 1"),
    ("budgets.at", {"0": {"8": "warn"}, "1": {"0": "cash"}}, "budgets.at", "'cash' is not one of warn, small, cache"),
    ("limits.tags", [{"in_flight": 1}], "limits.tags[0].name", "missing; write name ="),
    ("budgets.at", {"0.8": "small", "0.9": "warn"}, "budgets.at", "warn comes before small"),
    ("budgets.at", {"0.9": "small", "0.90": "warn"}, "budgets.at", "warn comes before small"),
    ("budgets.at", {"80%": "warn"}, "budgets.at.80%", "no share of a budget from 0 to 1; write at = { 0.8 ="),
    ("budgets.at", {"1.5": "warn"}, "budgets.at.1.5", "no share of a budget"),
    ("budgets.webhook", "hooks.example", "budgets.webhook", "it is no URL; write https://HOST/PATH"),
    ("budgets.webhook", "https://me:pw@hooks.example", "budgets.webhook", "it is no URL"),
    ("budgets.webhook_key_env", "NO_SUCH", "budgets.webhook_key_env", "the variable NO_SUCH is not set"),
    ("limits.tenants", [{"name": "a"}, {"name": "a"}], "limits.tenants[1].name", "'a' has limits already"),
    ("limits.tenants", [{"name": "(evidence)"}], "limits.tenants[0].name", "its limit is evidence.dollars_per_day"),
    ("limits.tags", [{"in_flight": 1}], "limits.tags[0].name", "missing"),
    ("limits.user.connections", 1, "limits.user.connections", "unknown key"),
    ("limits.dollars_per_day", "-1", "limits.dollars_per_day", 'expected dollars such as "0.15"'),
]


@pytest.mark.parametrize(("key", "value", "path", "words"), FAULTY)
def test_a_fault_is_named_with_its_path_and_the_remedy(key: str, value: Any, path: str, words: str) -> None:
    """One fault in a file is one line: where, what was found, what to write instead."""
    (fault,) = faults_of(lambda: build((key, value)))
    assert fault.path == path
    assert words in fault.message


@pytest.mark.parametrize("model", ["small", "large", "embeddings"])
@pytest.mark.parametrize(
    "url",
    [
        *("https://me:s3cret@llm.example/v1", "http://s3cret@llm.example:8000/v1", "https://:s3cret@llm.example/v1"),
        *("https://me:s3cret#1@llm.example/v1", "https://me:s3cret/1@llm.example/v1", "me:s3cret@llm.example/v1"),
        *("https://me:s3cret?1@llm.example/v1", "https://me:s3cret 1@llm.example/v1", "https://me:s3cret@[llm/v1"),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(model: str, url: str) -> None:
    """They would not be sent. Where the URL is no URL, its fault does not show them either."""
    given = (
        ("models.embeddings", EMBEDDINGS | {"base_url": url})
        if model == "embeddings"
        else (f"models.{model}.base_url", url)
    )
    (fault,) = faults_of(lambda: build(given))
    assert fault.path == f"models.{model}.base_url"
    assert "api_key_env" in fault.message
    assert "s3cret" not in str(fault)


def test_an_at_sign_behind_the_host_is_no_credential() -> None:
    url = "https://llm.example/@cf/v1"
    assert build(("models.small.base_url", url)).models.small.base_url == url


def test_all_of_ten_faults_are_told_in_one_run(tmp_path: Path) -> None:
    """Nobody mends a file ten times."""
    file = tmp_path / "ten.toml"
    file.write_text(
        """
        banana = 1
        [server]
        origins = ["*"]
        port = "8000"
        prot = 1
        [models.small]
        upstream = "openai"
        base_url = "nowhere"
        model = "s"
        api_key_env = "NOT_SET"
        [models.small.price]
        input = -1
        [models.large]
        upstream = "openai"
        base_url = "http://127.0.0.1:2/v1"
        model = "l"
        price = { input = 1, output = nan }
        [models.aliases]
        quick = "q"
        [funnel]
        strategy = "fastest"
        """,
        "utf-8",
    )
    assert sorted(fault.path for fault in faults_of(lambda: settings.load(file, {}))) == [
        "banana",
        "funnel.strategy",
        "models.aliases.quick",
        "models.large.price.output",
        "models.small.api_key_env",
        "models.small.base_url",
        "models.small.price.input",
        "models.small.price.output",
        "server.origins",
        "server.port",
        "server.prot",
    ]


def test_origins_in_a_variable_are_parted_by_commas() -> None:
    """And checked like those of the file."""
    loaded = build(environ={"MILLRACE__SERVER__ORIGINS": "https://a.example, http://localhost:3000"})
    assert loaded.server.origins == ("https://a.example", "http://localhost:3000")
    (fault,) = faults_of(lambda: build(environ={"MILLRACE__SERVER__ORIGINS": "https://a.example,*"}))
    assert fault.path == "server.origins (from MILLRACE__SERVER__ORIGINS)"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Some editors put one at the beginning."""
    file = tmp_path / "millrace.toml"
    file.write_bytes(b"\xef\xbb\xbf" + b"[models]\nfoo = 1")
    assert all("not read as TOML" not in fault.message for fault in faults_of(lambda: settings.load(file, {})))


@pytest.mark.parametrize("content", [b"[server\nport = 1", b'[server]\nhost = "\xff"', None])
def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path, content: bytes | None) -> None:
    """Broken TOML, bytes that are no UTF-8, a directory: the file's path is the fault's."""
    file = tmp_path / "broken.toml"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    (fault,) = faults_of(lambda: settings.load(file, {}))
    assert fault.path == str(file)
    assert "not read as TOML" in fault.message


def test_no_file_is_told_with_the_option_that_names_one(tmp_path: Path) -> None:
    """The first thing anyone runs into."""
    (fault,) = faults_of(lambda: settings.load(tmp_path / "none.toml", {}))
    assert fault == Fault(
        str(tmp_path / "none.toml"), "no such file; name one with --config FILE, or write one: millrace init"
    )


@pytest.mark.parametrize("key", [None, ""])
def test_a_keys_variable_must_hold_something(key: str | None) -> None:
    """Missing and empty are the same fault; set, it is fine, and the key is not part of the settings."""
    environ = {} if key is None else {"SMALL_KEY": key}
    (fault,) = faults_of(lambda: build(("models.small.api_key_env", "SMALL_KEY"), environ=environ))
    assert fault.path == "models.small.api_key_env"
    loaded = build(("models.small.api_key_env", "SMALL_KEY"), environ={"SMALL_KEY": "sk-secret"})
    assert "sk-secret" not in repr(loaded)


OVERRIDES: list[tuple[str, str, str, Any]] = [  # variable, text, path, value
    ("SERVER__HOST", "localhost", "server.host", "localhost"),
    ("SERVER__PORT", "9000", "server.port", 9000),
    ("CACHE__EXACT", "false", "cache.exact", False),
    ("CACHE__EXACT", "1", "cache.exact", True),
    ("CACHE__TTL_S", "1.5", "cache.ttl_s", 1.5),
    ("FUNNEL__STRATEGY", "small", "funnel.strategy", Strategy.SMALL),
    ("FUNNEL__CONCISE_LINE", "Be brief.", "funnel.concise_line", "Be brief."),
    ("MODELS__SMALL__BASE_URL", "https://example.org/v1", "models.small.base_url", "https://example.org/v1"),
    ("MODELS__SMALL__PRICE__INPUT", "0.10", "models.small.price.input", Decimal("0.10")),
    ("MODELS__LARGE__QUIRKS__MAX_TOKENS_FIELD", "max_completion_tokens", "models.large.quirks.max_tokens_field", None),
]


@pytest.mark.parametrize(("variable", "text", "path", "value"), OVERRIDES)
def test_any_key_can_be_set_from_the_environment(variable: str, text: str, path: str, value: Any) -> None:
    """A variable goes before the file, and its text is read as what the key wants."""
    found: Any = build(environ={f"MILLRACE__{variable}": text})
    for name in path.split("."):
        found = getattr(found, name)
    assert found == (text if value is None else value)
    assert isinstance(found, type(text if value is None else value))


def test_a_whole_configuration_can_come_from_the_environment() -> None:
    """Sections that the file does not have are made."""
    environ: dict[str, str] = {}
    for tier in ("SMALL", "LARGE"):
        keys = {"UPSTREAM": "openai", "BASE_URL": "http://127.0.0.1:1/v1", "MODEL": tier}
        keys |= {"PRICE__INPUT": "1", "PRICE__OUTPUT": "2"}
        environ |= {f"MILLRACE__MODELS__{tier}__{key}": text for key, text in keys.items()}
    loaded = settings.build({}, environ | {"UNRELATED": "x", "MILLRACE_URL": "x"})
    assert loaded.models.large.price.output == Decimal(2)


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("MILLRACE__SERVER__PORT", "many", "expected a whole number, got 'many'"),
        ("MILLRACE__CACHE__EXACT", "maybe", "expected true or false, got 'maybe'"),
        ("MILLRACE__CACHE__TTL_S", "nan", "expected a number > 0"),
        ("MILLRACE__MODELS__SMALL__PRICE__INPUT", "-1", "expected dollars such as \"0.15\", got '-1'"),
        ("MILLRACE__FUNNEL__STRATEGY", "best", "'best' is not one of auto"),
        ("MILLRACE__FUNNEL__CONCISE_LINE", "", "expected a text in quotes, got ''"),
        ("MILLRACE__SERVER__PROT", "1", "did you mean port?"),
        ("MILLRACE__SERVER__PORT__NUMBER", "1", "port is not a section"),
    ],
)
def test_a_bad_override_names_its_variable(variable: str, text: str, words: str) -> None:
    """Who set a variable looks for the fault there, not in the file."""
    (fault,) = faults_of(lambda: build(environ={variable: text}))
    assert variable in str(fault)
    assert words in fault.message


@pytest.mark.parametrize("price", ["0.15", 0.15, Decimal("0.15")])
def test_a_price_is_exact_however_it_is_written(price: object) -> None:
    """A TOML number becomes the decimal that was typed, not the nearest binary fraction."""
    assert build(("models.small.price.input", price)).models.small.price.input == Decimal("0.15")


@pytest.mark.parametrize(("price", "value"), [(3, Decimal(3)), ("0", Decimal(0)), (1e-7, Decimal("1e-7"))])
def test_whole_zero_and_tiny_prices(price: object, value: Decimal) -> None:
    """A model may be free; a price may be small."""
    assert build(("models.small.price.output", price)).models.small.price.output == value


def test_a_cached_price_may_be_left_out() -> None:
    """Then cached tokens cost what others do, which is pricing's to say."""
    assert build(("models.small.price.cached_input", ...)).models.small.price.cached_input is None


def test_a_text_from_a_variable_is_a_plain_string() -> None:
    """It goes on into frames and rows, where a subclass is not taken."""
    loaded = settings.build(configuration_for("http://a", "http://b"), {"MILLRACE__MODELS__SMALL__MODEL": "mine"})
    assert type(loaded.models.small.model) is str


def test_the_callers_tree_is_left_alone() -> None:
    """Building twice from one tree gives the same twice."""
    given = configuration_for("http://a", "http://b")
    settings.build(given, {"MILLRACE__SERVER__PORT": "9"})
    assert settings.build(given, {}).server.port == 0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.small.model", "large"),
        ("models.large.model", ""),
        ("models.small.price.input", "1e400"),
    ],
)
def test_a_name_or_price_that_cannot_be_meant(path: str, value: str) -> None:
    """A model may not be called like a tier; a price has a bound."""
    given = configuration_for("http://a", "http://b")
    *sections, key = path.split(".")
    section: Any = given
    for name in sections:
        section = section[name]
    section[key] = value
    with pytest.raises(SettingsError) as error:
        settings.build(given, {})
    assert [fault.path for fault in error.value.faults] == [path]


def test_every_override_is_named_by_its_variable() -> None:
    """Also where what is wrong with it is its meaning, or its place."""
    environ = {
        "MILLRACE__CACHE": "x",
        "MILLRACE__BANANA__X": "1",
        "MILLRACE__FUNNEL__STRATEGY": "fastest",
        "MILLRACE__MODELS__SMALL__BASE_URL": "nowhere",
    }
    with pytest.raises(SettingsError) as error:
        settings.build(configuration_for("http://a", "http://b"), environ)
    for name in environ:
        assert name in str(error.value) or name == "MILLRACE__BANANA__X"
    assert "banana" in str(error.value)


def test_prices_of_service_tiers_come_from_variables_too() -> None:
    """As any key does."""
    variables = {f"MILLRACE__MODELS__SMALL__TIER_PRICES__FLEX__{name}": "0.07" for name in ("INPUT", "OUTPUT")}
    made = settings.build(configuration_for("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"), variables)
    price = Decimal("0.07")
    assert made.models.small.tier_prices == {"flex": settings.PriceSettings(input=price, output=price)}
    assert made.models.large.tier_prices == {}


EMBEDDINGS = {"base_url": "http://127.0.0.1:3/v1", "model": "e", "price": {"input": "0.02"}}


def test_a_model_for_embeddings_is_optional() -> None:
    """And a section like any other, also for variables."""
    assert build().models.embeddings is None
    loaded = build(("models.embeddings", EMBEDDINGS), environ={"MILLRACE__MODELS__EMBEDDINGS__TIMEOUT_S": "5"})
    assert loaded.models.embeddings is not None
    assert (loaded.models.embeddings.price.input, loaded.models.embeddings.timeout_s) == (Decimal("0.02"), 5.0)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("models.embeddings", 7, "models.embeddings"),
        ("models.embeddings", {}, "models.embeddings.base_url"),
        ("models.embeddings", EMBEDDINGS | {"price": {}}, "models.embeddings.price.input"),
        ("models.embeddings", EMBEDDINGS | {"price": {"input": "1", "output": "1"}}, "models.embeddings.price.output"),
        ("models.embeddings", EMBEDDINGS | {"base_url": "nowhere"}, "models.embeddings.base_url"),
        ("models.embeddings", EMBEDDINGS | {"model": "small"}, "models.embeddings.model"),
        ("models.embeddings", EMBEDDINGS | {"model": "large-model"}, "models.embeddings.model"),
        ("models.embeddings", EMBEDDINGS | {"api_key_env": "NOT_SET"}, "models.embeddings.api_key_env"),
        ("models.embeddings", EMBEDDINGS | {"timeout": 1}, "models.embeddings.timeout"),
    ],
)
def test_a_fault_of_the_model_for_embeddings_is_named(path: str, value: Any, fault: str) -> None:
    assert fault in [found.path for found in faults_of(lambda: build((path, value)))]


def test_any_name_is_not_that_of_embeddings() -> None:
    """An alias may be; but what no one knows would make vectors that cannot be compared."""
    aliases = {"mine": "e", "*": "e"}
    (fault,) = faults_of(lambda: build(("models.embeddings", EMBEDDINGS), ("models.aliases", aliases)))
    assert "makes embeddings" in fault.message


def test_two_promises_of_the_router_are_a_fault_of_each_but_the_first() -> None:
    """They would pull at one threshold."""
    changes = (("router.keep_quality", 0.9), ("router.spend_per_day", "20"), ("router.large_share", 0.3))
    faults = faults_of(lambda: build(*changes))
    assert [fault.path for fault in faults] == ["router.keep_quality", "router.spend_per_day"]
    assert "large_share is one; leave out all but one" in faults[0].message
    assert build(changes[1]).router.spend_per_day == Decimal(20)


def pooled(**small: Any) -> dict[str, Any]:
    given = configuration_for("http://a/v1", "http://b/v1")
    given["models"]["small"] |= small
    return given


def test_the_places_of_a_model_have_what_its_section_has() -> None:
    """What they leave out is the model's; a label is the region, with a number among equals, or a number."""
    places = [{"api_key_env": "K"}, {"region": "eu", "weight": 2}, {"region": "eu", "base_url": "http://c/v1"}]
    small = settings.build(pooled(deployments=places), {"K": "sk"}).models.small
    found = [(label, weight, place.base_url, place.api_key_env) for label, weight, place in small.places()]
    assert found == [
        ("1", 1.0, "http://a/v1", "K"),
        ("eu-1", 2.0, "http://a/v1", None),
        ("eu-2", 1.0, "http://c/v1", None),
    ]
    assert [label for label, _, _ in settings.build(pooled(), {}).models.small.places()] == [""]
    assert [label for label, _, _ in settings.build(pooled(deployments=[{}]), {}).models.small.places()] == [""]


def test_one_provider_name_at_two_addresses_is_fine() -> None:
    given = configuration_for("http://a/v1", "http://b/v1")
    given["models"]["large"]["model"] = given["models"]["small"]["model"]
    assert settings.build(given, {}).models.large.model == "small-model"


SPARE = {"upstream": "openai", "base_url": "http://c/v1", "model": "spare", "price": {"input": "1", "output": "1"}}


@pytest.mark.parametrize(
    ("small", "more", "fault"),
    [
        ({"deployments": [{"weight": 0}]}, {}, "models.small.deployments[0].weight: expected a number > 0"),
        ({"deployments": [{"url": "http://a"}]}, {}, "models.small.deployments[0].url: unknown key"),
        ({"deployments": [{"api_key_env": "NONE"}]}, {}, "models.small.deployments[0].api_key_env: the variable NONE"),
        ({"deployments": [{"base_url": "a"}]}, {}, "models.small.deployments[0].base_url: 'a' is not a URL"),
        ({"deployments": {}}, {}, "models.small.deployments: expected a list of sections; write [[...]] over each"),
        ({"base_url": "", "deployments": [{}]}, {}, "models.small.deployments[0].base_url: missing; write base_url"),
        ({"base_url": ""}, {}, "models.small.base_url: missing; write base_url"),
        ({"fallback": ["spar"]}, {"spare": SPARE}, "models.small.fallback: 'spar' names no other model; write one of"),
        ({"fallback": ["small"]}, {}, "models.small.fallback: 'small' names no other model; write one of large"),
        ({"fallback": ["spare", "spare"]}, {"spare": SPARE}, "models.small.fallback: 'spare' is named twice"),
        ({}, {"large": SPARE}, "models.more.large: 'large' is the name of another model; choose another one"),
        ({}, {"spare": SPARE | {"fallback": ["large"]}}, "models.more.spare.fallback: a model that stands in has no"),
        ({}, {"spare": SPARE | {"model": 7}}, "models.more.spare.model: expected a text in quotes, got 7"),
    ],
)
def test_a_fault_of_pools_and_chains_is_named(small: dict[str, Any], more: dict[str, Any], fault: str) -> None:
    given = pooled(**small)
    given["models"]["more"] = more
    with pytest.raises(SettingsError) as error:
        settings.build(given, {})
    assert [str(each)[: len(fault)] for each in error.value.faults] == [fault]
