"""``user_modules``: what were scripts in one folder import each other by their own names, and nobody else does."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from conftest import make_wheel, write_files
from depload.errors import SourceError
from depload.making import tools
from depload.making.builder import LooseFile, build_modules
from depload.pipeline import detect

if TYPE_CHECKING:
    from pathlib import Path

Files = dict[str, str]


def site(tmp_path: Path, files: Files, **packages: str) -> Path:
    """A site with ``user_modules`` made of the files, and packages of one module each beside it."""
    source = write_files(tmp_path / "source", files)
    loose = [
        LooseFile(path, path.name, path.relative_to(source).as_posix())
        for path in sorted(source.rglob("*"))
        if path.is_file()
    ]
    to = tmp_path / "wheel"
    to.mkdir()
    found = tmp_path / "site"
    made = [make_wheel(to, name, "1.0", {f"{name}/__init__.py": text}) for name, text in packages.items()]
    for wheel in [build_modules(loose, to), *made]:
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(found)
    return found


def run(where: Path, code: str, python: str = sys.executable) -> Any:
    """What ``answer`` is after code ran with the site on the path, somewhere else."""
    done = subprocess.run(
        [python, "-c", f"import json\nanswer = None\n{dedent(code)}\nprint(json.dumps(answer))"],
        env={**os.environ, "PYTHONPATH": str(where), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=where.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


BASIC: Files = {
    "calculator.py": "from utils import helpers\n\ndef double(x):\n    return helpers.times(x, 2)\n",
    "utils/helpers.py": "def times(x, y):\n    return x * y\n",
    "utils/more/deep.py": "from utils.helpers import times\n",
}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from user_modules import calculator; answer = calculator.double(4)", 8),
        ("import user_modules.calculator; answer = user_modules.calculator.double(4)", 8),
        ("from user_modules.utils import helpers; answer = helpers.times(2, 3)", 6),
        ("from user_modules.utils.helpers import times; answer = times(2, 3)", 6),
        ("from user_modules.utils.more import deep; answer = deep.times(2, 3)", 6),
    ],
)
def test_modules_and_folders_without_init_are_imported_from_user_modules(
    code: str, expected: int, tmp_path: Path
) -> None:
    assert run(site(tmp_path, BASIC), code) == expected


HELPERS = "VALUE = 1\n\n\ndef own():\n    return __name__\n"
STATEMENTS: dict[str, tuple[str, object]] = {
    "from utils import helpers": ("helpers.own()", "user_modules.utils.helpers"),
    "from utils import helpers as h": ("h.own()", "user_modules.utils.helpers"),
    "import utils.helpers": ("utils.helpers.own()", "user_modules.utils.helpers"),
    "import utils.helpers as h": ("h.own()", "user_modules.utils.helpers"),
    "import utils": ("utils.__name__", "user_modules.utils"),
    "from utils.helpers import own": ("own()", "user_modules.utils.helpers"),
    "from utils.helpers import *": ("own() + str(VALUE)", "user_modules.utils.helpers1"),
    "from package import *": ("member.own()", "user_modules.package.member"),
    "from package import member": ("member.own()", "user_modules.package.member"),
    "from package import NAME": ("NAME", "package"),
    "from .utils import helpers": ("helpers.own()", "user_modules.utils.helpers"),
    "from . import other": ("other.own()", "user_modules.other"),
    "import other": ("other.own()", "user_modules.other"),
    "import other, json": ("other.own() + json.dumps(1)", "user_modules.other1"),
    "def late():\n    import other\n    return other": ("late().own()", "user_modules.other"),
    "import user_modules.other as other": ("other.own()", "user_modules.other"),
    "from user_modules import other": ("other.own()", "user_modules.other"),
    "exec('import other')": ("other.own()", "user_modules.other"),
    "other = eval('__import__(\"other\")')": ("other.own()", "user_modules.other"),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_module_imports_its_siblings_by_their_own_names(statement: str, tmp_path: Path) -> None:
    expression, expected = STATEMENTS[statement]
    files = {
        "job.py": f"{statement}\n\nanswer = {expression}\n",
        "other.py": HELPERS,
        "utils/helpers.py": HELPERS,
        "package/__init__.py": "__all__ = ['member']\nNAME = 'package'\n",
        "package/member.py": HELPERS,
    }
    assert run(site(tmp_path, files), "from user_modules import job; answer = job.answer") == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({"job.py": "import calendar as x\n", "calendar.py": ""}, "user_modules.calendar", id="a module"),
        pytest.param(
            {"job.py": "import calendar as x\n", "calendar/__init__.py": ""}, "user_modules.calendar", id="a package"
        ),
        pytest.param({"job.py": "import json as x\n", "json/rates.json": "{}"}, "json", id="not a folder of data"),
        pytest.param({"job.py": "import json as x\n", "json/a.py": ""}, "json", id="nor one without init"),
        pytest.param({"job.py": "import installed as x\n", "installed.py": ""}, "user_modules.installed", id="theirs"),
        pytest.param({"job.py": "import installed as x\n", "installed/a.csv": ""}, "installed", id="not for data"),
        pytest.param(
            {"jobs/__init__.py": "", "job.py": "from jobs import y as x\n", "jobs/y.py": "import types as x\n"}
            | {"jobs/types.py": ""},
            "user_modules.jobs.y",
            id="in a package",
        ),
    ],
)
def test_at_the_top_a_sibling_comes_before_pythons_own_and_what_is_installed(
    files: Files, expected: str, tmp_path: Path
) -> None:
    where = site(tmp_path, files, installed="")
    assert run(where, "from user_modules import job; answer = job.x.__name__") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("types", "types"),
        ("installed", "installed"),
        ("near", "user_modules.jobs.daily.near"),
        ("far", "user_modules.jobs.far"),
        ("top", "user_modules.top"),
        ("both", "user_modules.jobs.daily.both"),
    ],
)
def test_further_down_a_sibling_counts_where_nothing_else_has_the_name(
    name: str, expected: str, tmp_path: Path
) -> None:
    files = {
        "jobs/daily/a.py": f"import {name}\nanswer = {name}.__name__\n",
        **dict.fromkeys(("jobs/daily/types.py", "jobs/daily/installed.py", "jobs/daily/near.py", "jobs/far.py"), ""),
        **dict.fromkeys(("jobs/far.py", "top.py", "jobs/top.py", "jobs/both.py", "jobs/daily/both.py"), ""),
    }
    where = site(tmp_path, files, installed="")
    assert run(where, "from user_modules.jobs.daily import a; answer = a.answer") == expected


def test_a_package_that_is_there_is_not_completed_from_the_folder(tmp_path: Path) -> None:
    where = site(tmp_path, {"jobs/a.py": "import json.extra\n", "jobs/json/extra.py": ""})
    code = """
        try:
            from user_modules.jobs import a
        except ModuleNotFoundError as error:
            answer = str(error)
        """
    assert run(where, code) == "No module named 'json.extra'"


def test_no_name_of_the_folder_appears_outside_of_it(tmp_path: Path) -> None:
    where = site(tmp_path, {"job.py": "import helpers\n", "helpers.py": "", "json.py": "import decimal\n"})
    code = """
        import sys
        from user_modules import job, json as theirs
        import json
        try:
            import helpers
        except ModuleNotFoundError as error:
            answer = [str(error), json.__name__, theirs.__name__, "helpers" in sys.modules]
        """
    assert run(where, code) == ["No module named 'helpers'", "json", "user_modules.json", False]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("from helpers import nothing", "cannot import name 'nothing' from 'user_modules.helpers'"),
        ("from utils import nothing", "cannot import name 'nothing' from 'user_modules.utils'"),
        ("import utils.nothing", "No module named 'user_modules.utils.nothing'"),
        ("import json.nothing", "No module named 'json.nothing'"),
        ("import broken", "No module named 'missing'"),
        ("from utils import broken", "No module named 'missing'"),
    ],
)
def test_an_import_that_fails_says_what_python_says(statement: str, message: str, tmp_path: Path) -> None:
    files = {"job.py": f"{statement}\n", "helpers.py": "", "utils/a.py": "", "broken.py": "import missing\n"}
    where = site(tmp_path, {**files, "utils/broken.py": "import missing\n"})
    code = """
        try:
            from user_modules import job
        except ImportError as error:
            answer = str(error)
        """
    assert run(where, code).startswith(message)


def test_siblings_that_import_each_other_in_a_circle(tmp_path: Path) -> None:
    files = {
        "a.py": "import b\n\ndef one():\n    return b.two() - 1\n",
        "b.py": "import a\nfrom utils import c\n\ndef two():\n    return c.three() - 1\n",
        "utils/c.py": "import a, b\nfrom utils import c as own\n\ndef three():\n    return 3 if a.b is b else own\n",
    }
    assert run(site(tmp_path, files), "from user_modules import a; answer = a.one()") == 1


def test_there_is_one_object_of_each_module_however_it_is_imported(tmp_path: Path) -> None:
    files = {
        "job.py": "import models\nfrom models import Order\nfrom utils import make\n",
        "models.py": "class Order:\n    pass\n",
        "utils/make.py": "from models import Order\n\ndef order():\n    return Order()\n",
    }
    code = """
        import pickle
        from user_modules import job, models
        same = job.models is models and job.Order is models.Order and type(job.make.order()) is models.Order
        answer = [same, models.Order.__module__, isinstance(pickle.loads(pickle.dumps(job.make.order())), job.Order)]
        """
    assert run(site(tmp_path, files), code) == [True, "user_modules.models", True]


def test_what_is_pickled_by_reference_arrives_in_another_process(tmp_path: Path) -> None:
    where = site(tmp_path, {"job.py": "from models import Order\n", "models.py": "class Order:\n    size = 3\n"})
    sent = run(where, "import pickle; from user_modules import job; answer = pickle.dumps(job.Order()).hex()")
    assert b"user_modules.models" in bytes.fromhex(sent)
    assert run(where, f"import pickle; answer = pickle.loads(bytes.fromhex('{sent}')).size") == 3
    with pytest.raises(ModuleNotFoundError, match="user_modules"):
        pickle.loads(bytes.fromhex(sent))


def test_the_folders_own_init_is_the_packages(tmp_path: Path) -> None:
    files = {
        "__init__.py": """\
            \"\"\"The folder's own words.\"\"\"
            from __future__ import annotations
            from helpers import double
            from .utils import more
            import utils.more as again

            def late(x):
                import helpers
                return helpers.double(x)

            NAME = __name__
            """,
        "helpers.py": "def double(x):\n    return 2 * x\n",
        "utils/more.py": "",
    }
    code = """
        import user_modules as u
        answer = [u.__doc__, u.NAME, u.double(2), u.late(3), u.more is u.again]
        """
    assert run(site(tmp_path, files), code) == ["The folder's own words.", "user_modules", 4, 6, True]


def test_an_error_in_the_folders_own_init_shows_its_own_line(tmp_path: Path) -> None:
    where = site(tmp_path, {"__init__.py": "x = 1\n\nraise ValueError('mine')\n"})
    code = """
        import traceback
        try:
            import user_modules
        except ValueError:
            answer = traceback.format_exc()
        """
    assert "line 3, in <module>\n    raise ValueError('mine')" in run(where, code)


def test_what_stands_under_main_does_not_run(tmp_path: Path) -> None:
    where = site(tmp_path, {"job.py": "NAME = __name__\nif __name__ == '__main__':\n    raise SystemExit(3)\n"})
    assert run(where, "from user_modules import job; answer = job.NAME") == "user_modules.job"


def test_data_beside_the_modules_is_read_from_beside_them(tmp_path: Path) -> None:
    files = {
        "job.py": """\
            from pathlib import Path
            import utils.tables
            RATE = (Path(__file__).parent / "data/rate.txt").read_text()
            """,
        "utils/tables.py": """\
            import importlib.resources
            ROWS = importlib.resources.files(__package__).joinpath("rows.csv").read_text()
            """,
        "utils/rows.csv": "1,2",
        "data/rate.txt": "0.19",
    }
    where = site(tmp_path, files)
    code = "from user_modules import job; answer = [job.RATE, job.utils.tables.ROWS]"
    assert run(where, code) == ["0.19", "1,2"]


def test_source_and_names_are_found_by_inspection(tmp_path: Path) -> None:
    code = """
        import inspect, pkgutil, user_modules
        from user_modules import calculator
        names = sorted(each.name for each in pkgutil.walk_packages(user_modules.__path__, "user_modules."))
        answer = ["helpers.times" in inspect.getsource(calculator.double), "user_modules.calculator" in names]
        """
    assert run(site(tmp_path, BASIC), code) == [True, True]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_it_is_the_same_on_every_python(python: str, tmp_path: Path) -> None:
    interpreter = tools.interpreter(python)
    if interpreter is None:
        pytest.skip(f"there is no python{python} here")
    files = {
        "__init__.py": "from helpers import double\n",
        "job.py": "import utils.deep, json\nfrom package import *\nfrom helpers import *\n",
        "helpers.py": "def double(x):\n    return 2 * x\n",
        "utils/deep.py": "import near\nfrom helpers import double\n",
        "utils/near.py": "",
        "package/__init__.py": "__all__ = ['member']\n",
        "package/member.py": "",
    }
    code = """
        from user_modules import job
        answer = [job.double(2), job.member.__name__, job.utils.deep.near.__name__, job.json.__name__]
        """
    expected = [4, "user_modules.package.member", "user_modules.utils.near", "json"]
    assert run(site(tmp_path, files), code, interpreter) == expected


# --- the package itself ---------------------------------------------------------------------------------------------


def _loose(tmp_path: Path, files: Files) -> list[LooseFile]:
    write_files(tmp_path, files)
    return [LooseFile(tmp_path / name, name, name.partition("/")[2]) for name in files]


def test_equal_modules_make_equal_packages_and_others_another_version(tmp_path: Path) -> None:
    names = []
    for folder, text in (("one", "X = 1\n"), ("two", "X = 1\n"), ("three", "X = 2\n")):
        (tmp_path / folder / "to").mkdir(parents=True)
        files = _loose(tmp_path / folder, {"s/a.py": text, "s/data.csv": "1"})
        wheel = build_modules(files, tmp_path / folder / "to")
        names.append((wheel.name, wheel.read_bytes()))
    assert names[0] == names[1]
    assert names[0][0] != names[2][0]


def test_files_of_one_name_are_all_named_unless_they_are_equal(tmp_path: Path) -> None:
    files = {"one/a.py": "1", "two/a.py": "2", "one/b/c.txt": "1", "two/b/c.txt": "2", "one/d": "0", "two/d": "0"}
    with pytest.raises(SourceError) as error:
        build_modules(_loose(tmp_path, files), tmp_path)
    assert str(error.value).splitlines()[1:] == [
        "  - one/a.py and two/a.py would both be user_modules/a.py",
        "  - one/b/c.txt and two/b/c.txt would both be user_modules/b/c.txt",
    ]


def test_what_detection_warns_of_is_what_python_does_not_find(tmp_path: Path) -> None:
    """The rule that judges imports beforehand and the one that makes them agree."""
    imports = ["helpers", "near", "far", "utils", "data", "nowhere"]
    files = {
        "helpers.py": "",
        "utils/sub/job.py": "".join(f"import {name}\n" for name in imports),
        "utils/sub/near.py": "",
        "utils/far.py": "",
        "data/x.csv": "",
    }
    where = site(tmp_path, files)
    code = f"""
        import user_modules
        missing = []
        scope = {{"__builtins__": user_modules.__builtins__, "__package__": "user_modules.utils.sub"}}
        import user_modules.utils.sub.near
        for name in {imports!r}:
            try:
                exec(f"import {{name}}", scope)
            except ModuleNotFoundError:
                missing.append(name)
        answer = missing
        """
    warned = [warning.split()[2].rstrip(",") for warning in detect(tmp_path / "source").warnings]
    assert run(where, code) == warned == ["data", "nowhere"]
