"""Attacks that are no bytes but a place: what another user left where sites are made, and directories as sources."""

from __future__ import annotations

import json
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from attack import targets, zips
from attack.guard import EscapeError, watch
from attack.targets import expect
from depload.errors import DeploadError
from depload.source import formats
from depload.travels.activation import ActivationError, unpacking
from depload.travels.activation.sites import sites_home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Scene = Callable[[Path], None]

DIGEST = zips.manifest_of(targets.SOUND)["digest"]


def _wheelhouse(inside: Path, lies: bytes | None = None) -> Path:
    path = inside / "attack.zip"
    path.write_bytes(zips.wheelhouse(targets.SOUND) if lies is None else lies)
    return path


@contextmanager
def _roots(*roots: Path) -> Iterator[None]:
    """Nobody has named a directory; there are Spark's local ones, and the temporary one."""
    *local, temporary = roots
    environment = {"SPARK_LOCAL_DIRS": ",".join(map(str, local))}
    with patch.dict(os.environ, environment), patch("tempfile.gettempdir", return_value=str(temporary)):
        named = os.environ.pop("DEPLOAD_SITES", None)
        try:
            yield
        finally:
            os.environ.update({"DEPLOAD_SITES": named} if named else {})


def _home() -> str | None:
    try:
        return sites_home()
    except ActivationError:
        return None


def _made(place: Path, mode: int) -> Path:
    place.mkdir(parents=True)
    place.chmod(mode)
    return place


# --- the node directory -------------------------------------------------------------------------------


def _somebody_elses_directory(inside: Path) -> None:
    """Another user has made the directory that the name can be told of beforehand."""
    shared = _made(inside / "tmp", 0o1777)
    _made(shared / f"depload-{os.getuid() + 1}", 0o700)
    with _roots(shared), patch("os.getuid", return_value=os.getuid() + 1):
        expect(_home() is None, "a directory of another user is used")


def _somebody_elses_directory_and_another_root(inside: Path) -> None:
    shared, other = _made(inside / "tmp", 0o1777), _made(inside / "other", 0o755)
    (shared / f"depload-{os.getuid()}").symlink_to(_made(inside / "evil", 0o777))
    with _roots(shared, other):
        expect(_home() == f"{other}/depload-{os.getuid()}/sites", "the next directory is not taken")
    expect(not list((inside / "evil").iterdir()), "something was written where a link leads")


def _writable_by_others(inside: Path) -> None:
    for mode in (0o777, 0o770, 0o720, 0o702, 0o1777):
        shared = _made(inside / f"tmp-{mode:o}", 0o1777)
        _made(shared / f"depload-{os.getuid()}", mode)
        with _roots(shared):
            expect(_home() is None, f"a directory of mode {mode:o} is used")


def _writable_below(inside: Path) -> None:
    shared = _made(inside / "tmp", 0o1777)
    _made(shared / f"depload-{os.getuid()}", 0o700)
    _made(shared / f"depload-{os.getuid()}" / "sites", 0o777)
    with _roots(shared):
        expect(_home() is None, "a directory that others may write to is used")


def _parents_without_a_sticky_bit(inside: Path) -> None:
    """Whoever may write to a parent may put another directory in the place of ours, later as well."""
    for mode in (0o777, 0o775, 0o757):
        parent = _made(inside / f"local-{mode:o}", mode)
        safe = _made(inside / f"safe-{mode:o}", 0o755)
        with _roots(parent, safe):
            expect(_home() == f"{safe}/depload-{os.getuid()}/sites", f"a directory below one of mode {mode:o} is used")
        expect(not list(parent.iterdir()), "something was made where others can replace it")
        with _roots(_made(parent / "deep" / "er", 0o755)):
            expect(_home() is None, f"a directory far below one of mode {mode:o} is used")


def _a_link_to_a_parent_without_a_sticky_bit(inside: Path) -> None:
    (inside / "link").symlink_to(_made(inside / "open", 0o777))
    with _roots(inside / "link"):
        expect(_home() is None, "a directory below a link to one that others may write to is used")


def _made_with_no_umask(inside: Path) -> None:
    before = os.umask(0)
    try:
        site = targets.activate(_wheelhouse(inside), inside / "home")
    finally:
        os.umask(before)
    for folder in (inside / "home", inside / "home" / "sites"):
        expect(stat.S_IMODE(folder.stat().st_mode) == 0o700, f"{folder} is not for its owner alone")
    expect(site, "a sound wheelhouse was refused")


def _a_link_where(name: str) -> Scene:
    """A link that another process of this user, or what had access for a while, left in the directory."""

    def scene(inside: Path) -> None:
        sites = _made(inside / "home" / "sites", 0o700)
        (inside / "home").chmod(0o700)
        precious = inside / "precious"
        precious.mkdir()
        (precious / "file").write_text("keep")
        (sites / f"{DIGEST}{name}").symlink_to(precious if name == "" else precious / "file")
        try:
            targets.activate(_wheelhouse(inside), inside / "home")
        except EscapeError as error:  # what is left is the link, which depload did not make
            expect("was refused left" in str(error), str(error))
        expect([path.name for path in precious.iterdir()] == ["file"], "something was written where a link leads")
        expect((precious / "file").read_text() == "keep", "what a link leads to was changed")

    return scene


def _a_site_that_says(complete: object, files: dict[str, str]) -> Scene:
    """A site that was not unpacked by depload, or not to its end."""

    def scene(inside: Path) -> None:
        site = _made(_made(inside / "home" / "sites", 0o700) / DIGEST, 0o755)
        (inside / "home").chmod(0o700)
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(text)
        if complete is not None:
            text = complete if isinstance(complete, str) else json.dumps(complete)
            (site / ".depload.json").write_text(text)
        found = targets.activate(_wheelhouse(inside), inside / "home")
        expect(found, "a site of somebody else's making keeps everybody from having theirs")
        text = Path(str(found), "alpha.py").read_text()
        expect(text == "NAME = 'alpha'\n", "a site of somebody else's making is used")

    return scene


def _a_site_that_was_changed(change: Callable[[Path], object]) -> Scene:
    def scene(inside: Path) -> None:
        path = _wheelhouse(inside)
        site = targets.activate(path, inside / "home")
        change(Path(str(site)))
        again = targets.activate(path, inside / "home")
        expect(Path(str(again), "alpha.py").read_text() == "NAME = 'alpha'\n", "a site that was changed is used")
        expect(not Path(str(again), "alpha.py").is_symlink(), "a link in a site is used")

    return scene


def _with_its_time_put_back(site: Path) -> None:
    file = site / "alpha.py"
    before = file.stat()
    file.write_text("NAME = 'other'\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _as_a_link(site: Path) -> None:
    (site / "alpha.py").rename(site.parent.parent / "kept.py")
    (site / "alpha.py").symlink_to(site.parent.parent / "kept.py")


def _swapped_while_it_is_unpacked(inside: Path) -> None:
    """Who can write to the base changes the wheel between the moment it is hashed and the moment it is unpacked."""
    path = _wheelhouse(inside)
    whole, jobs = path.read_bytes(), unpacking._jobs

    def swapped(*arguments: object) -> object:
        path.write_bytes(whole.replace(b"alpha.py", b"alphA.py"))
        os.utime(path, ns=(1, 1))
        return jobs(*arguments)  # type: ignore[arg-type]

    with patch.object(unpacking, "_jobs", swapped):
        expect(targets.activate(path, inside / "home") is None, "what was unpacked is not what was hashed")


NODE_DIRECTORY: dict[str, Scene] = {
    "a directory of another user": _somebody_elses_directory,
    "a link in place of the directory, and another root": _somebody_elses_directory_and_another_root,
    "a directory that others may write to": _writable_by_others,
    "one below it that others may write to": _writable_below,
    "parents without a sticky bit": _parents_without_a_sticky_bit,
    "a link to a parent without a sticky bit": _a_link_to_a_parent_without_a_sticky_bit,
    "no umask": _made_with_no_umask,
    **{f"a link as {name or 'the site'}": _a_link_where(name) for name in ("", ".lock", ".use")},
    "a site without a record": _a_site_that_says(None, {"alpha.py": "NAME = 'evil'\n"}),
    "a site whose record is of another": _a_site_that_says({"digest": "0" * 64, "files": {}}, {"alpha.py": "evil"}),
    "a site whose record is nonsense": _a_site_that_says("[" * 9000, {"alpha.py": "evil"}),
    "a site whose record lists what is not there": _a_site_that_says({"digest": DIGEST, "files": {"x": [0, 0]}}, {}),
    "a site whose record has other types": _a_site_that_says({"digest": DIGEST, "files": [1]}, {"alpha.py": "evil"}),
    "a changed file": _a_site_that_was_changed(lambda site: (site / "alpha.py").write_text("NAME = 'other'\n")),
    "a changed file with its time put back": _a_site_that_was_changed(_with_its_time_put_back),
    "a file that became a link": _a_site_that_was_changed(_as_a_link),
    "a file that is gone": _a_site_that_was_changed(lambda site: (site / "alpha.py").unlink()),
    "a record that is gone": _a_site_that_was_changed(lambda site: (site / ".depload.json").unlink()),
    "a wheelhouse that is changed while it is unpacked": _swapped_while_it_is_unpacked,
}  # fmt: skip


# --- directories as sources ---------------------------------------------------------------------------


def _detected(make: Callable[[Path], object]) -> Scene:
    """A directory is looked at; nothing outside of it is, and nothing in it is waited for."""

    def scene(inside: Path) -> None:
        source = inside / "source"
        with watch().paused():
            source.mkdir(exist_ok=True)
            (source / "module.py").write_text("import json\n")
            make(source)
        try:
            targets._expect_sound(formats.detect(source, targets.Opener(inside)), inside / "source")
        except DeploadError as error:
            expect("\x1b" not in str(error), "a terminal would obey the message")

    return scene


def _pipes(source: Path) -> None:
    names = ["pipe.py", "requirements.txt", "pyproject.toml", "setup.py", "acme-1.0.tar.gz", "a.zip", "a.whl", "pipe"]
    for name in names:
        os.mkfifo(source / name)
    (source / "bin").mkdir()
    os.mkfifo(source / "bin" / "run.py")


def _links(source: Path) -> None:
    for name in ("pyproject.toml", "requirements.txt", "link.py", "a.zip", "a.whl", "lib"):
        (source / name).symlink_to("/etc/passwd" if "." in name else "/etc")


def _installed_behind_a_link(source: Path) -> None:
    (source / "link").symlink_to("/etc")
    (source / "a-1.dist-info").mkdir()
    (source / "a-1.dist-info" / "METADATA").write_text("Name: a\nVersion: 1\n")
    (source / "a-1.dist-info" / "RECORD").write_text("link/passwd,,\nmodule.py,,\n")


def _deep(inside: Path) -> None:
    """Folders deeper than Python's own functions walk; so it is also taken apart by hand."""
    places = [inside / "source"]
    places += (places[-1] / "d" for _ in range(1200))
    with watch().paused():
        for place in places[1:]:
            place.mkdir(parents=True)
    try:
        _detected(lambda source: (source / "deep.py").write_text(""))(inside)
    finally:
        with watch().paused():
            for name in ("module.py", "deep.py"):
                (inside / "source" / name).unlink(missing_ok=True)
            for place in reversed(places):
                place.rmdir()


def _round(source: Path) -> None:
    for name in ("one", "two"):
        (source / name).mkdir()
        (source / name / "again").symlink_to(source)


SOURCE_DIRECTORY: dict[str, Scene] = {
    "pipes of every name": _detected(_pipes),
    "links of every name": _detected(_links),
    "an installed package with files behind a link": _detected(_installed_behind_a_link),
    "folders 1,200 deep": _deep,
    "links that lead in a circle": _detected(_round),
    "a name that a terminal obeys": _detected(lambda source: (source / "\x1b[2J.whl").write_text("")),
    "a name that is no text": _detected(lambda source: (source / os.fsdecode(b"\xff\xfe.py")).write_text("")),
}

SCENES: dict[str, dict[str, Scene]] = {"node directory": NODE_DIRECTORY, "source directory": SOURCE_DIRECTORY}
