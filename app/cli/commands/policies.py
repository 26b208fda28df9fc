"""``launch.py policies``: the library of policies, and its ways in and out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import options as cli
from app.cli.input_files import recipe
from app.cli.job_options import open_jobs
from app.cli.terminal import escape, record_text, table
from app.host.console import Console
from app.host.errors import AppError
from app.host.paths import DataDir
from app.policies.library import ModelInUse, PolicyLibrary, StoredPolicy
from sol_core.errors import PolicyError

if TYPE_CHECKING:
    from app.policies.views import PolicyUses
    from storage import Store

HELP = "list, show, rename, delete, export, import, push or pull policies"
ACTIONS = {
    "list": "every policy, the shipped one first",
    "show": "one policy, what it measured, and what depends on it",
    "recipe": "print the TOML file that trains a policy again, for train --config",
    "rename": "give a policy another name; jobs and runs still find it",
    "delete": "delete a policy for good, after saying what depends on it",
    "export": "write a policy as a folder, or as a zip when OUT ends in .zip",
    "import": "check a policy's folder or zip and take it in",
    "push": "put a policy on the Hugging Face Hub",
    "pull": "take a policy in from the Hugging Face Hub, checked as import does",
}
_REPOSITORY = "repository on the Hub, OWNER/NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    made = cli.add_actions(parser, ACTIONS)
    for name in ("show", "recipe", "rename", "delete", "export", "push"):
        made[name].add_argument("name", metavar="NAME", help="the policy's name")
    made["rename"].add_argument("new_name", metavar="NEW", help="its name from now on")
    cli.add_flag(made["delete"], "force", "even if a job that has not ended needs it")
    made["export"].add_argument("out", type=Path, metavar="OUT", help="a zip, or a new folder")
    made["import"].add_argument("source", type=Path, metavar="FILE", help="a folder or a zip")
    for name in ("push", "pull"):
        made[name].add_argument("repository", metavar="REPO", help=_REPOSITORY)
    cli.add_flag(made["push"], "private", "make a private repository")
    for name, action in made.items():
        if name in ("import", "pull"):
            action.add_argument("--name", dest="as_name", help="what to call it here")
            cli.add_flag(action, "any-model", "do not check that it was trained for --model")
            cli.add_model(action, with_device=False)
        else:
            cli.add_data_dir(action)


def run(args: argparse.Namespace) -> int:
    with open_jobs(args, fills=args.action in ("import", "pull")) as (data_dir, store):
        actions = _Actions(args, data_dir, store)
        record, text = getattr(actions, f"do_{args.action}")()
    cli.print_result(args, record, escape(text))
    return 0


_Answer = tuple[dict[str, Any], str]


class _Actions:
    """Actions of the command, a method each; an answer is its JSON and its words."""

    def __init__(self, args: argparse.Namespace, data_dir: DataDir, store: Store) -> None:
        self._args, self._data_dir, self._store = args, data_dir, store
        self._library = PolicyLibrary(data_dir)

    def do_list(self) -> _Answer:
        from app.policies.views import policy_row

        policies, damaged = self._library.list_all()
        rows = [policy_row(policy) for policy in policies]
        head = ("name", "model", "parameters", "made")
        cells = [
            (row["name"], row["model"], f"{row['parameters']:,}", row["created"][:16])
            for row in rows
        ]
        lines = table(head, cells, "<<><") if rows else ["There are no policies."]
        lines += [f"{broken['name']} is damaged: {broken['problem']}" for broken in damaged]
        return {"policies": rows, "damaged": damaged}, "".join(f"{line}\n" for line in lines)

    def do_show(self) -> _Answer:
        from app.policies.views import headlines_of, policy_row

        policy, uses = self._policy()
        row = policy_row(policy)
        evaluations = headlines_of(uses.evaluations, policy)
        record = row | {
            "folder": str(policy.folder),
            "former_names": list(policy.all_names[1:]),
            "summary": policy.info.summary,
            "training_job": None if uses.training is None else uses.training.id,
            "evaluations": evaluations,
            "jobs_waiting": [job.id for job in uses.waiting],
            "runs": uses.num_runs,
        }
        return record, _details(row, policy, uses, evaluations)

    def do_recipe(self) -> _Answer:
        text = recipe(self._library.get(self._args.name).info)
        return {"recipe": text}, text

    def do_rename(self) -> _Answer:
        name, new_name = self._args.name, self._args.new_name
        self._library.rename(name, new_name)
        return {"name": new_name, "former": name}, f"{name} is now {new_name}\n"

    def do_delete(self) -> _Answer:
        try:
            policy, uses = self._policy()
        except PolicyError:  # one that cannot be read: no job can use it either
            self._library.delete(self._args.name)
            return {"deleted": self._args.name}, f"deleted {self._args.name}, which was damaged\n"
        if uses.waiting and not self._args.force:
            waiting = ", ".join(job.id for job in uses.waiting)
            raise AppError(
                f"{policy.name} is needed by jobs that have not ended ({waiting}): cancel them, or "
                "give --force"
            )
        self._library.delete(self._args.name)  # by its name of today only
        record = {
            "deleted": policy.name,
            "runs": uses.num_runs,
            "evaluations": len(uses.evaluations),
            "jobs_waiting": len(uses.waiting),
        }
        return record, f"deleted {policy.name}; what named it: {uses.sentence()}\n"

    def do_export(self) -> _Answer:
        self._library.export(self._args.name, self._args.out)
        out = str(self._args.out)
        return {"name": self._args.name, "out": out}, f"wrote {self._args.name} to {out}\n"

    def do_import(self) -> _Answer:
        source = self._args.source
        wanted = self._args.as_name or source.resolve().name.removesuffix(".zip")
        return self._taken(self._library.take_in(source, wanted, self._model()))

    def do_pull(self) -> _Answer:
        repository = self._args.repository
        wanted = self._args.as_name or repository.rpartition("/")[2]
        return self._taken(self._library.pull(repository, wanted, self._model()))

    def do_push(self) -> _Answer:
        name, args = self._args.name, self._args
        address = self._library.push(name, args.repository, private=args.private)
        return {"name": name, "address": address}, f"{name} is at {address}\n"

    def _taken(self, name: str) -> _Answer:
        from app.policies.views import policy_row

        row = policy_row(self._library.get(name))
        return row, f"took in {name}: for {row['model']}, {row['parameters']:,} parameters\n"

    def _policy(self) -> tuple[StoredPolicy, PolicyUses]:
        from app.policies.views import uses_of

        policy = self._library.get(self._args.name)
        return policy, uses_of(self._store, self._library, policy)

    def _model(self) -> ModelInUse | None:
        if self._args.any_model:
            return None
        from sol_core.models.loading import model_fingerprint

        console, name = Console(), cli.model_name(self._args)
        fingerprint = model_fingerprint(
            name, data_dir=self._data_dir.root, on_progress=console.progress
        )
        console.clear()
        return ModelInUse(name, fingerprint)


def _details(
    row: dict[str, Any], policy: StoredPolicy, uses: PolicyUses, evaluations: list[dict[str, Any]]
) -> str:
    fields = {
        "policy": row["name"],
        "formerly": ", ".join(policy.all_names[1:]),
        "model": f"{row['model']} (fingerprint {row['fingerprint'][:8]})",
        "network": f"{row['network']}, {row['parameters']:,} parameters",
        "site": f"{row['quant_site']}, pages of {row['page_size']} tokens",
        "made": row["created"],
        "folder": str(policy.folder),
        "training job": "" if uses.training is None else uses.training.id,
        "named by": uses.sentence(),
    }
    fields |= row["measured"]
    fields["evaluation"] = [evaluation["words"] for evaluation in evaluations]
    return record_text({name: value for name, value in fields.items() if value})
