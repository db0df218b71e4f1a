import pytest

from addersr.errors import UsageError
from addersr.page.arguments import check_host, credentials, host_names, make_parser


def who(*words):
    return credentials(make_parser().parse_args(words))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.9.10"])
def test_this_computer_needs_no_password(host):
    assert who("--host", host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_others_do(host):
    with pytest.raises(UsageError, match="can be reached by others; add --auth @FILE, or --no-auth"):
        who("--host", host)
    assert who("--host", host, "--no-auth") is None
    assert who("--host", host, "--auth", "ann:secret") == [("ann", "secret")]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "0.0.0.0"])
def test_where_this_computer_can_listen(host):
    check_host(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "no name"])
def test_where_it_cannot(host):
    with pytest.raises(
        UsageError, match=f"^--host {host}: no address of this computer; .*, or 0.0.0.0 for all$"
    ):
        check_host(host)


def test_a_file_of_passwords(tmp_path):
    path = tmp_path / "users"
    path.write_text("ann:a:b\n\n bob:c \n")
    assert who("--auth", f"@{path}") == [("ann", "a:b"), ("bob", "c")]


@pytest.mark.parametrize("content", [None, "", "ann\n", "ann:\n", ":secret\n"])
def test_one_that_cannot_be_used(tmp_path, content):
    path = tmp_path / "users"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as caught:
        who("--auth", f"@{path}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [["--port", "-1"], ["--port", "65536"], ["--port", "http"], ["--queue", "0"], ["--max-upload", "0"],
     ["--max-pixels", "x"], ["--auth", "a:b", "--no-auth"]],
)  # fmt: skip
def test_values_that_there_are_not(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser().parse_args(words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err.splitlines()[-1]


def test_names_of_the_page():
    parse = make_parser().parse_args
    assert host_names(parse(["--allow-host", "Pictures.Example.org"])) == {"pictures.example.org"}
    assert host_names(parse(["--host", "0.0.0.0"])) is None
    assert host_names(parse(["--host", "10.0.0.1", "--allow-host", "a"])) == {"10.0.0.1", "a"}


@pytest.mark.parametrize("name", ["https://a.org", "a.org:443", "a.org/x", ""])
def test_a_name_that_is_none(name, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--allow-host", name])
    assert "the name alone" in capsys.readouterr().err
