"""Settings: the file, the variables, the options; every mistake names its place and the next step."""

from pathlib import Path

import pytest

from millrace.kernel.errors import SetupError
from millrace.settings import MASK, Settings, listed, load, overlaid, read


def file_with(folder: Path, text: str) -> Path:
    """Write a settings file and return it."""
    file = folder / "given.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_file_and_variables_everything_has_a_default() -> None:
    assert load(None, {}) == Settings()


def test_a_file_sets_and_a_variable_wins(tmp_path: Path) -> None:
    file = file_with(tmp_path, "[door]\nport = 9000\ndemo = true\n")

    loaded = read(file, {"MILLRACE_DOOR_PORT": "9001"})

    assert loaded.settings.door.port == 9001
    assert loaded.settings.door.demo is True
    assert loaded.origins["door.port"] == "MILLRACE_DOOR_PORT"
    assert loaded.origins["door.demo"] == str(file)
    assert loaded.origins["door.host"] == "default"


def test_the_file_may_be_named_by_a_variable_and_lies_in_the_folder_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_with(tmp_path, "[door]\nport = 9000\n")
    monkeypatch.chdir(tmp_path)

    assert load(None, {}).door.port == Settings().door.port
    assert load(None, {"MILLRACE_SETTINGS": str(file)}).door.port == 9000

    file.rename(tmp_path / "millrace.toml")

    assert load(None, {}).door.port == 9000


@pytest.mark.parametrize(
    ("variable", "text", "found"),
    [
        ("MILLRACE_DOOR_CORS_ORIGINS", "https://a.example, https://b.example", ["https://a.example", "https://b.example"]),
        ("MILLRACE_DOOR_CORS_ORIGINS", '["https://a.example"]', ["https://a.example"]),
        ("MILLRACE_DOOR_CORS_ORIGINS", "", []),
        ("MILLRACE_DOOR_RATES", '{"read": 5}', {"read": 5}),
        ("MILLRACE_DOOR_DEMO", "true", True),
        ("MILLRACE_DOOR_DEMO", "1", True),
        ("MILLRACE_DOOR_DEMO", "off", False),
        ("MILLRACE_DOOR_PUBLIC_URL", "1", "1"),
        ("MILLRACE_STORE_ACQUIRE_SECONDS_MAX", "2.5", 2.5),
    ],
)  # fmt: skip
def test_variables_are_read_by_type(variable: str, text: str, found: object) -> None:
    settings = load(None, {variable: text})

    room, _, field = variable.removeprefix("MILLRACE_").lower().partition("_")
    assert getattr(getattr(settings, room), field) == found


def test_a_secret_is_masked_and_the_rest_is_shown() -> None:
    primary = "host=db password=hunter2"
    loaded = read(None, {"MILLRACE_SECRET": "ab" * 32, "MILLRACE_STORE_PRIMARY": primary})

    lines = {name: (value, origin) for name, value, origin in listed(loaded)}

    assert lines["secret"] == (MASK, "MILLRACE_SECRET")
    assert lines["store.primary"] == (MASK, "MILLRACE_STORE_PRIMARY")
    assert lines["door.port"] == (8321, "default")
    assert "hunter2" not in repr(lines)


def test_an_option_wins_over_everything() -> None:
    loaded = overlaid(read(None, {"MILLRACE_DOOR_PORT": "9001"}), {"door.port": 1, "secret": "x"})

    assert loaded.settings.door.port == 1
    assert loaded.settings.secret == "x"
    assert loaded.origins["door.port"] == "--port"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[door]\nprot = 1\n", "door.port"),
        ("[dor]\nport = 1\n", "door.port"),
        ("secrt = 'x'\n", "secret"),
    ],
)
def test_an_unknown_name_in_the_file_says_the_nearest(tmp_path: Path, text: str, said: str) -> None:
    file = file_with(tmp_path, text)

    with pytest.raises(SetupError, match="does not exist") as caught:
        load(file, {})

    assert str(file) in caught.value.message
    assert f"did you mean {said}?" in (caught.value.next_step or "")


def test_an_unknown_variable_says_the_nearest() -> None:
    with pytest.raises(SetupError, match="MILLRACE_STORE_PRIMRY") as caught:
        load(None, {"MILLRACE_STORE_PRIMRY": "host=db"})

    assert "MILLRACE_STORE_PRIMARY" in (caught.value.next_step or "")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MILLRACE_SERVICE_HOST", "10.0.0.7"),
        ("MILLRACE_PORT", "tcp://10.0.0.7:80"),
        ("MILLRACE_PORT_80_TCP_ADDR", "10.0.0.7"),
        ("MILLRACE_TEST_KEEP", "1"),
        ("PATH", "/bin"),
    ],
)
def test_variables_that_others_made_are_left_alone(variable: str, value: str) -> None:
    assert load(None, {variable: value}) == Settings()


def test_our_own_mistake_with_such_a_name_is_still_seen() -> None:
    with pytest.raises(SetupError, match="MILLRACE_PORT"):
        load(None, {"MILLRACE_PORT": "8321"})


def test_a_wrong_type_in_the_file_names_file_and_setting(tmp_path: Path) -> None:
    file = file_with(tmp_path, "[door]\nport = 'http'\n")

    with pytest.raises(SetupError, match=r"door\.port is 'http': Expected `int`") as caught:
        load(file, {})

    assert str(file) in caught.value.message


def test_a_wrong_type_in_a_variable_names_the_variable() -> None:
    with pytest.raises(SetupError, match=r"MILLRACE_DOOR_PORT: door\.port is 'http'"):
        load(None, {"MILLRACE_DOOR_PORT": "http"})


def test_a_wrong_type_deep_inside_names_the_path() -> None:
    with pytest.raises(SetupError, match=r"\$\[\.\.\.\]"):
        load(None, {"MILLRACE_DOOR_RATES": '{"read": "often"}'})


def test_a_table_where_a_value_belongs_is_a_wrong_type(tmp_path: Path) -> None:
    file = file_with(tmp_path, "store = 3\n")

    with pytest.raises(SetupError, match="store"):
        load(file, {})


def test_a_file_that_is_not_there_or_no_toml_says_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(SetupError, match=r"is not TOML.*line 1"):
        load(file_with(tmp_path, "[door\n"), {})


def test_a_list_of_words_is_written_with_commas():
    """Also where only some words are allowed; a wrong one is named."""
    made = load(None, {"MILLRACE_FLAGS_OPT_IN_RINGS": "alpha, beta"})
    assert [ring.value for ring in made.flags.opt_in_rings] == ["alpha", "beta"]
    assert load(None, {"MILLRACE_FLAGS_OPT_IN_RINGS": '["beta"]'}).flags.opt_in_rings == ("beta",)

    with pytest.raises(SetupError, match=r"flags\.opt_in_rings"):
        load(None, {"MILLRACE_FLAGS_OPT_IN_RINGS": "gamma"})
