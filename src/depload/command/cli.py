"""The command line: parse, call, print.

Standard output carries the answer, as text or with ``--json`` as one JSON document; everything else goes to standard
error. Exit codes: 0; 1 for an error of depload's, told in one paragraph; 2 for a call that cannot be understood.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from depload._version import __version__
from depload.errors import DeploadError, PruneError, WorkerError

try:
    import click
except ImportError:
    sys.exit("depload: the command line needs click and rich; pip install 'depload[cli]'")

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from depload.pipeline import Converted
    from depload.published.wheelhouse import Manifest
    from depload.reporting.report import Fingerprint, Report
    from depload.source.formats import Detection


class _Command(click.Command):
    """A command whose help ends with its example as it stands."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self._example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Example"):
            formatter.write("".join(f"  $ {line}\n" for line in self._example.splitlines()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Errors that depload raises are told, not thrown."""
        try:
            return super().invoke(ctx)
        except DeploadError as error:
            if ctx.params.get("as_json"):
                click.echo(json.dumps({"error": {"type": type(error).__name__, "message": str(error)}}, indent=2))
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="depload")
def main() -> None:
    """Bring Python dependencies into a running Spark or Databricks job.

    A zip of requirements, modules, projects or wheels becomes one wheelhouse file for exactly the cluster's Python and
    platform, which loads on the driver and on every worker.
    """


def _command(name: str, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """A command of the group, with ``--json``."""

    def decorate(function: Callable[..., None]) -> click.Command:
        option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
        return main.command(name, cls=_Command, example=example)(option(function))

    return decorate


def _print(as_json: bool, data: Mapping[str, Any], text: str) -> None:
    click.echo(json.dumps(data, indent=2) if as_json else text)


def _warn(warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


# --- detect ---------------------------------------------------------------------------------------------------------


@_command("detect", "depload detect my-deps.zip")
@click.argument("source")
def _detect(source: str, as_json: bool) -> None:
    """Tell what SOURCE is: a zip, a directory, a requirements.txt, a wheel, a project, a pylock.toml.

    Prints its format, what was found where, and what was passed over and why. Nothing of it is run.
    """
    from depload import detect

    detection = detect(source)
    _warn(() if as_json else detection.warnings)
    _print(as_json, detection.to_json(), _detection_text(detection))


def _detection_text(detection: Detection) -> str:
    from depload.reporting.report import table

    text = f"format: {detection.format}\n\n" + table(
        [("found", "where"), *((root.kind, root.path) for root in detection.roots)]
    )
    if detection.ignored:
        text += "\n\n" + table([("passed over", "because"), *((item.path, item.why) for item in detection.ignored)])
    return text


# --- convert --------------------------------------------------------------------------------------------------------


@_command("convert", "depload convert my-deps.zip --base /Volumes/main/default/deps --runtime 15.4")
@click.argument("source")
@click.option("--base", required=True, help="Where run paths are made: the wheelhouse goes to BASE/<uuid>/.")
@click.option("--name", help="Name of the wheelhouse file [default: that of the source].")
@click.option("--python", help="Python version to make wheels for, as 3.11 [default: this one].")
@click.option("--platform", help="Platform tag to make wheels for, as manylinux_2_35_x86_64 [default: this one].")
@click.option("--runtime", help="Databricks runtime to make wheels for, as 14.3 or serverless-3.")
@click.option("--resolver", type=click.Choice(["uv", "pip"]), help="What resolves [default: uv where there is one].")
@click.option("-i", "--index-url", help="Base URL of the package index [default: pip's configuration].")
@click.option("--extra-index-url", "extra_index_urls", multiple=True, help="Further indexes.")
@click.option("--index-url-secret", help="Databricks secret, as SCOPE/KEY, that holds the index URL.")
@click.option("--extra-index-url-secret", "extra_index_url_secrets", multiple=True, help="Further ones, as SCOPE/KEY.")
@click.option("--no-index", is_flag=True, help="Use no index, only --find-links and what the source holds.")
@click.option("-f", "--find-links", multiple=True, help="Directories or pages with wheels and sdists.")
@click.option("--pre", is_flag=True, help="Allow pre-releases.")
@click.option("--prefer-binary", is_flag=True, help="Prefer older wheels over newer sdists (pip only).")
@click.option("--only-binary", multiple=True, help="Packages, or :all:, that must not be built from source.")
@click.option("--no-binary", multiple=True, help="Packages, or :all:, that must be built from source.")
@click.option(
    "--no-build", is_flag=True, help="Build nothing, of the source and of the index; name what would need it."
)
@click.option("--require-hashes", is_flag=True, help="Take nothing whose hash the source does not give.")
@click.option(
    "--index-for",
    multiple=True,
    metavar="NAME=URL",
    help="Take NAME, or PREFIX*, from the index at URL and from nowhere else.",
)
@click.option("--allow", multiple=True, metavar="NAME|FILE", help="Allow these packages alone, as requests>=2.31.")
@click.option("--deny", multiple=True, metavar="NAME|FILE", help="Allow no such packages, as requests<2.31.")
@click.option(
    "--audit", metavar="WHERE", help="Refuse known vulnerabilities: osv, pypi, a URL, or OSV's records on disk."
)
@click.option("--audit-ignore", multiple=True, metavar="ID", help="A vulnerability that is put up with.")
@click.option("--trusted-host", "trusted_hosts", multiple=True, help="Hosts whose certificates are not checked.")
@click.option("--cert", help="File with the certificate authorities to trust.")
@click.option("--client-cert", help="File with the certificate and key to show to the index.")
@click.option("--timeout", type=float, help="Seconds to wait for the index [default: 15].")
@click.option("--retries", type=int, help="How often to try again [default: 4].")
@click.option("--proxy", help="Proxy for the index, as http://user:password@host:port.")
@click.option(
    "--keyring-provider",
    type=click.Choice(["auto", "disabled", "import", "subprocess"]),
    help="How a keyring is asked for the index's password [default: none is].",
)
@click.option(
    "-c", "--constraint", "constraints", multiple=True, type=click.Path(path_type=Path), help="Constraints file."
)
@click.option("--compile/--no-compile", default=True, show_default=True, help="Put .pyc files into the wheelhouse.")
@click.option("--reuse", metavar="SPAN", help="How old an answer may be that pins not every version [default: none].")
@click.option("--refresh", is_flag=True, help="Convert anew, whatever the base has of earlier conversions.")
@click.option("--cache/--no-cache", default=True, show_default=True, help="Keep wheels below BASE for later ones.")
@click.option("--build-timeout", metavar="SPAN", help="How long a build, or resolving, may take [default: 30m].")
@click.option("--build-memory", metavar="SIZE", help="Most memory of all processes of a build [default: 8GB].")
@click.option("--build-disk", metavar="SIZE", help="Most that a build may write [default: 20GB].")
@click.option(
    "--build-network",
    type=click.Choice(["index", "all"]),
    help="What builds may reach: what indexes list, or all [default: all; with --no-index nothing, where possible].",
)
@click.option("--max-members", type=int, help="Most members that a zip may have.")
@click.option("--max-size", type=int, help="Most bytes that a zip may unpack to.")
@click.option("--max-ratio", type=int, help="Most bytes that a packed byte may unpack to.")
@click.option("--max-depth", type=int, help="How deep zips may lie in zips.")
def _convert(source: str, base: str, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Turn SOURCE into a wheelhouse, published under a fresh run path of BASE.

    Prints the run path, which is what the tasks that load are given.
    """
    from depload import BuildLimits, IndexOptions, Limits, Policy, Target, convert

    limits = {
        key: given[f"max_{key}"] for key in ("members", "size", "ratio", "depth") if given[f"max_{key}"] is not None
    }
    names = ("timeout", "memory", "disk", "network")
    builds = BuildLimits.of(**{key: given[f"build_{key}"] for key in names})
    index = (
        "index_url",
        "extra_index_urls",
        "index_for",
        "no_index",
        "find_links",
        "pre",
        "prefer_binary",
        "only_binary",
    )
    network = ("no_binary", "trusted_hosts", "cert", "client_cert", "proxy", "timeout", "retries", "keyring_provider")
    policy = ("require_hashes", "no_build", "allow", "deny", "audit", "audit_ignore")
    options = IndexOptions(**{key: given[key] for key in (*index, *network)})
    if given["index_url_secret"] or given["extra_index_url_secrets"]:
        from depload.databricks.secrets import with_secrets

        options = with_secrets(
            options, index_url=given["index_url_secret"], extra_index_urls=given["extra_index_url_secrets"]
        )
    with _progress() as progress:
        converted = convert(
            source,
            base,
            name=given["name"],
            target=Target.of(given["python"], given["platform"], given["runtime"]),
            options=options,
            constraints=given["constraints"],
            resolver=given["resolver"],
            compile=given["compile"],
            **{key: given[key] for key in ("reuse", "refresh", "cache")},
            policy=Policy(**{key: given[key] for key in policy}),
            limits=Limits(**limits),
            builds=builds,
            progress=progress,
        )
    _warn(() if as_json else converted.warnings)
    _print(as_json, converted.to_json(), _converted_text(converted))


def _converted_text(converted: Converted) -> str:
    from depload.reporting.report import size

    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in converted.seconds.items() if name != "total")
    return (
        f"{_wheels_table(converted.manifest)}\n\n"
        f"format:     {converted.format}\n"
        f"target:     {converted.target}\n"
        f"wheelhouse: {converted.wheelhouse} ({size(converted.size)})\n"
        f"digest:     {converted.digest}\n"
        f"{'reused:    ' if converted.reused else 'made anew: '} {converted.why}\n"
        f"seconds:    {converted.seconds['total']:.2f} ({phases})\n"
        f"path:       {converted.path}"
    )


def _wheels_table(manifest: Manifest) -> str:
    from depload.reporting.report import size, table

    rows = [("package", "version", "size", "native", "from")]
    for wheel in manifest.wheels:
        native = "yes" if wheel.native else "no"
        origin = wheel.origin if wheel.origin.startswith("built") or "://" not in wheel.origin else "index"
        rows.append((wheel.name, wheel.version, size(wheel.size), native, origin))
    return table(rows)


def _progress() -> Any:  # noqa: ANN401 - a context manager of a Progress
    """What is shown while a conversion runs: bars on a terminal, a line a phase elsewhere."""
    from contextlib import nullcontext

    if sys.stderr.isatty():
        from depload.command.terminal import bars

        return bars()
    return nullcontext(_Lines())


class _Lines:
    """Progress as lines on standard error."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def phase(self, name: str) -> None:
        click.echo(f"{name} ...", err=True)

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        if total and done == total and filename not in self._told:
            self._told.add(filename)
            click.echo(f"  {filename}", err=True)


# --- inspect, verify ------------------------------------------------------------------------------------------------


@_command("inspect", "depload inspect /Volumes/main/default/deps/3f0a9c1e-0000-4000-8000-000000000000")
@click.argument("path")
@click.option("--sbom", "member", flag_value="sbom", help="Print the bill of materials inside (CycloneDX 1.6, JSON).")
@click.option("--provenance", "member", flag_value="provenance", help="Print the provenance inside (in-toto, SLSA v1).")
def _inspect(path: str, member: str | None, as_json: bool) -> None:
    """Print what the wheelhouse at PATH holds: a run path or a .wheelhouse.zip."""
    from depload.published import provenance, sbom, wheelhouse
    from depload.published.runs import open_run

    run = open_run(path)
    if member:
        name = sbom.MEMBER if member == "sbom" else provenance.MEMBER
        click.echo(wheelhouse.document(run.file, name), nl=False)
        return
    data = {"path": run.path, "wheelhouse": run.location, **run.manifest.to_json()}
    manifest = run.manifest
    about = f"format: {manifest.format}\ntarget: {manifest.target}\nfile:   {run.location}\ndigest: {manifest.digest}"
    inside = [name for name in (sbom.MEMBER, provenance.MEMBER) if name in manifest.others]
    about += f"\ninside: {', '.join(inside)} (--sbom and --provenance print them)" if inside else ""
    _print(as_json, data, f"{_wheels_table(manifest)}\n\n{about}")


@_command("verify", "depload verify /Volumes/main/default/deps/3f0a9c1e-0000-4000-8000-000000000000")
@click.argument("path")
def _verify(path: str, as_json: bool) -> None:
    """Check every hash of the wheelhouse at PATH, and every file of every wheel; name what is wrong."""
    from depload import verify

    manifest = verify(path)
    data = {"path": path, "digest": manifest.digest, "wheels": len(manifest.wheels), "verified": True}
    _print(as_json, data, f"{path}: all {len(manifest.wheels)} wheels are as published, digest {manifest.digest}")


# --- check ----------------------------------------------------------------------------------------------------------


@_command("check", "depload check /Volumes/main/default/deps/3f0a9c1e-0000-4000-8000-000000000000 --runtime 15.4")
@click.argument("path")
@click.option("--runtime", help="Compare with what this Databricks runtime preinstalls, as 15.4, and nothing else.")
@click.option("--master", help="Ask the workers of a Spark session on this master too [default: the driver alone].")
@click.option(
    "--isolation",
    type=click.Choice(["shared", "process"]),
    default="shared",
    show_default=True,
    help="How it would be loaded: into the workers that are there, or into Python workers of its own.",
)
def _check(
    path: str, runtime: str | None, master: str | None, isolation: Literal["shared", "process"], as_json: bool
) -> None:
    """Compare the wheelhouse at PATH with what is installed where it would be loaded, and load nothing.

    Prints what will be replaced, what is hidden, and what stands in the way; then the exit code is 1.
    """
    from contextlib import nullcontext

    from depload import check
    from depload.local.embedded import spark_session
    from depload.published.runs import open_run

    if runtime and master:
        raise click.UsageError("--runtime compares with a list, --master asks a Spark session: give one of them")
    open_run(path)  # before Spark is started for nothing
    if master:
        click.echo(f"starting Spark on {master} ...", err=True)
    with spark_session(master) if master else nullcontext() as spark:
        found = check(path, spark, runtime=runtime, isolation=isolation)
    _print(as_json, found.to_json(), str(found))
    if not found.ok:
        sys.exit(1)


# --- load, cleanup, demo --------------------------------------------------------------------------------------------


@_command("load", "depload load /tmp/deps/3f0a9c1e-0000-4000-8000-000000000000 --master 'local[2]' --import pandas")
@click.argument("path")
@click.option(
    "--master", default="local-cluster[2,1,1024]", show_default=True, help="Spark master to start a session on."
)
@click.option("--import", "imports", multiple=True, metavar="NAME", help="Import NAME on the driver and every worker.")
@click.option(
    "--isolation",
    type=click.Choice(["shared", "process"]),
    default="shared",
    show_default=True,
    help="Use the application's Python workers, or workers of the session's own.",
)
@click.option(
    "--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write the report there as JUnit XML, for CI."
)
@click.option(
    "--html", metavar="FILE", type=click.Path(path_type=Path), help="Write the report there as a page of HTML."
)
def _load(
    path: str,
    master: str,
    imports: tuple[str, ...],
    isolation: Literal["shared", "process"],
    junit: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Start a Spark session, load the wheelhouse at PATH, and print what the driver and every worker have."""
    from depload import load
    from depload.local.embedded import spark_session
    from depload.published.runs import open_run

    def write(report: Report) -> None:
        if junit:
            _write(junit, report.to_junit())
        if html:
            _write(html, report.to_html())

    open_run(path)  # before Spark is started for nothing
    click.echo(f"starting Spark on {master} ...", err=True)
    with spark_session(master) as spark:
        try:
            loaded = load(path, spark, imports=imports or None, isolation=isolation)
        except WorkerError as error:
            if error.report:
                write(error.report)
            raise
        write(loaded.report)
        _print(as_json, {"path": loaded.path, **loaded.report.to_json()}, str(loaded.report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DeploadError(f"{path} cannot be written: {error.strerror}; name a file in a directory that is") from error


# --- fingerprint ----------------------------------------------------------------------------------------------------


@_command("fingerprint", "depload fingerprint --json > before.json\ndepload fingerprint --compare before.json")
@click.option("--master", help="Ask the driver and workers of a Spark session on this master too.")
@click.option(
    "--compare",
    "before",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What --json of this or of load printed before.",
)
def _fingerprint(master: str | None, before: Path | None, as_json: bool) -> None:
    """Print what can be imported in this process, and on a Spark session's workers: versions and a SHA-256 of them.

    With --compare it prints what differs instead, and the exit code is 1 where anything does: packages, Python,
    platform or prefix.
    """
    from contextlib import nullcontext

    from depload import fingerprint
    from depload.local.embedded import spark_session

    there = _read_fingerprint(before) if before else None
    if master:
        click.echo(f"starting Spark on {master} ...", err=True)
    with spark_session(master) if master else nullcontext() as spark:
        here = fingerprint(spark)
    if there is None:
        _print(as_json, here.to_json(), str(here))
        return
    comparison = here.compare(there)
    _print(as_json, comparison.to_json(), f"here: now\nthere: {before}\n\n{comparison}")
    if comparison:
        sys.exit(1)


def _read_fingerprint(path: Path) -> Fingerprint:
    from depload import Fingerprint

    try:
        return Fingerprint.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DeploadError(f"{path} cannot be read as JSON: {error}; name what `--json` printed") from error
    except DeploadError as error:
        raise DeploadError(f"{path}: {error}") from error


@_command("cleanup", "depload cleanup /tmp/deps/3f0a9c1e-0000-4000-8000-000000000000")
@click.argument("path")
@click.option(
    "--leased",
    type=click.Choice(["refuse", "wait", "remove"]),
    default="refuse",
    show_default=True,
    help="What to do where another process has loaded it.",
)
@click.option("--timeout", metavar="SPAN", default="30m", show_default=True, help="Wait no longer than that.")
def _cleanup(path: str, leased: Literal["refuse", "wait", "remove"], timeout: str, as_json: bool) -> None:
    """Remove the run path PATH, and nothing else. One that is already gone is a success."""
    from depload import cleanup
    from depload.reporting.report import size

    cleaned = cleanup(path, leased=leased, timeout=timeout, progress=lambda text: click.echo(text, err=True))
    data = {"path": cleaned.path, "removed": cleaned.removed, "size": cleaned.size}
    text = f"removed {path} ({size(cleaned.size)})" if cleaned.removed else f"{path} is already gone"
    _print(as_json, data, text)


@_command("prune", "depload prune /Volumes/main/default/depload --older-than 7d --max-size 50GB --dry-run")
@click.argument("base")
@click.option(
    "--older-than", metavar="SPAN", default="7d", show_default=True, help="Remove what is older: 7d, 24h, 90m."
)
@click.option("--max-size", metavar="SIZE", help="Remove the oldest until the rest fits: 50GB, 1.5GiB.")
@click.option("--dry-run", is_flag=True, help="Write and remove nothing; print what would be removed.")
@click.option("-v", "--verbose", is_flag=True, help="List what is not depload's too.")
def _prune(base: str, older_than: str, max_size: str | None, dry_run: bool, verbose: bool, as_json: bool) -> None:
    """Remove from BASE the run paths that are old, and what crashed runs left.

    What is in use, what is being published, and what is not depload's stays. The exit code is 1 where something that
    should go could not be removed.
    """
    from depload import prune
    from depload.reporting import leftovers

    fault = None
    try:
        pruned = prune(base, older_than=older_than, max_size=max_size, dry_run=dry_run)
    except PruneError as error:
        pruned, fault = error.pruned, error
    _print(as_json, pruned.to_json(), leftovers.text(pruned, verbose=verbose))
    if fault:
        click.echo(f"error: {fault}", err=True)
        sys.exit(1)


@_command("demo", "depload demo")
@click.option(
    "--artifacts", default="test_artifacts", show_default=True, type=click.Path(path_type=Path), help="Examples."
)
@click.option("--master", default="local-cluster[2,1,1024]", show_default=True, help="Spark master to load on.")
def _demo(artifacts: Path, master: str, as_json: bool) -> None:
    """Take each example through the whole job: detect, convert, load on Spark with proof, clean up."""
    from depload.local.demo import demonstrate, summary

    rows = demonstrate(artifacts, master, say=lambda text: click.echo(text, err=True))
    _print(as_json, {"examples": [row.to_json() for row in rows]}, summary(rows))
    if any(row.error for row in rows):
        sys.exit(1)


# --- run ------------------------------------------------------------------------------------------------------------


@_command("run", "depload run test_pure_python --param isolation=shared --junit results.xml")
@click.argument("job", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the jobs of the bundle with their tasks, and run none.")
@click.option(
    "--bundle", metavar="DIR", type=click.Path(path_type=Path), help="The bundle [default: the nearest above]."
)
@click.option("-t", "--target", help="The bundle's target [default: its default one].")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the bundle.")
@click.option(
    "-p",
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A job parameter; of one that is given several times, concurrent runs get the values in turn.",
)
@click.option("--concurrent", metavar="N", type=click.IntRange(1), default=1, help="Start so many runs at once.")
@click.option("--clusters", metavar="K", type=click.IntRange(1), help="Job clusters at once [default: by memory].")
@click.option("--master", help="Spark master of every cluster [default: local-cluster, by the job's num_workers].")
@click.option(
    "--serverless-python",
    metavar="PYTHON",
    help="Interpreter with pyspark[connect]>=4 and packaging, for serverless tasks and standard access mode "
    "[default: this one].",
)
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where /Volumes/ and dbfs:/ lie: a parameter of a task that begins so is rewritten to a path below DIR "
    "[default: a temporary directory, removed in the end].",
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Keep logs (DIR/RUN/TASK.log), results.json and junit.xml there.",
)
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write JUnit XML there, for CI.")
@click.option("--secret", "secrets", multiple=True, metavar="SCOPE/KEY=VALUE", help="A secret for dbutils.secrets.")
@click.option(
    "--secrets",
    "secrets_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Secrets, as JSON by scope and key.",
)
@click.option(
    "--retry-wait", metavar="SECONDS", type=float, help="Wait so long before a retry [default: as the job says]."
)
def _run(job: str | None, as_list: bool, as_json: bool, **given: Any) -> None:  # noqa: ANN401
    """Run JOB of a bundle on this machine, from the definition that would be deployed.

    Each task is a process of its own on embedded Spark, in the order of its dependencies, with task values, parameters,
    references, retries and timeouts. The exit code is 1 where a run does not succeed.
    """
    from depload.command import jobs
    from depload.running.rendering import summary

    asked = jobs.Asked(**given)
    if as_list:
        listed = jobs.listing(asked.rendered())
        _print(as_json, listed, jobs.listed_text(listed))
        return
    if job is None:
        raise click.UsageError("name a JOB, or give --list")
    runs = jobs.execute(job, asked)
    _print(as_json, jobs.to_json(runs), summary(runs))
    if not all(run.good for run in runs):
        sys.exit(1)
