"""From located values to typed objects; what does not fit becomes one line that names place, key and remedy."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from dnw_core.config import TO_BE_TRAINED, Config
from dnw_core.errors import UserError
from dnw_core.nearest import nearest
from tune_configs.located import Located

ConfigType = TypeVar("ConfigType", bound=Config)
DISCRIMINATORS = ("kind", "rule")  # a section with another one of these is another kind of section


def validate(config_type: type[ConfigType], located: Located, subject: str = "") -> ConfigType:
    """Build a configuration from a located mapping.

    Args:
        config_type: the configuration to build.
        located: the mapping; its places are named in the error.
        subject: what is being read, for the error (``row static-dnw, scale short``).

    Raises:
        UserError: naming the place of the offending value, what is wrong, and the nearest known key.
    """
    try:
        return config_type.model_validate(located.plain(), context=TO_BE_TRAINED)
    except ValidationError as error:
        raise UserError(_describe(config_type, located, error, subject)) from None


def merge(base: Located, override: Located | None) -> Located:
    """Return ``base`` with the entries of ``override`` laid over it, section by section.

    A section whose override names another discriminator (``kind``, ``rule``) starts afresh: the settings of
    a multi-step schedule mean nothing to a cosine one.
    """
    if override is None:
        return base
    if not (isinstance(base.value, dict) and isinstance(override.value, dict)):
        return override
    for name in DISCRIMINATORS:
        old, new = base.get(name), override.get(name)
        if new is not None and old is not None and new.value != old.value:
            return override
    merged = dict(base.value)
    for key, value in override.value.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return Located(merged, override.where, override.key_where)


def _describe(config_type: type[Config], located: Located, error: ValidationError, subject: str) -> str:
    # an unknown key explains a missing one (`epoch:` for `epochs:`), so it is reported first
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    path = problem["loc"]
    node, names = located, []
    for part in path:
        inner = node.get(str(part))
        if inner is None and isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
        if inner is None:  # the tag of a union member, or a missing key
            continue
        node = inner
        names.append(str(part))
    dotted = ".".join(names)
    about = f" ({subject})" if subject else ""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = known_keys(config_type, located, names[:-1])
        return f"{node.key_where}: unknown key {dotted!r}{nearest(names[-1], known)}{about}"
    if kind == "missing":
        missing = ".".join([*names, str(path[-1])])
        return f"{node.where}: the key {missing!r} is missing{about}"
    if kind == "union_tag_invalid":
        name, found = context["discriminator"].strip("'"), context["tag"]
        tag = node.get(name)
        expected = [one.strip(" '") for one in context["expected_tags"].split(",")]
        hint = nearest(str(found), expected)
        return f"{tag.where if tag else node.where}: {dotted}.{name} is unknown: {found!r}{hint}{about}"
    if kind == "union_tag_not_found":
        return f"{node.where}: {dotted or 'the section'} needs the key {context['discriminator']}{about}"
    place = (
        node.where if node.where.endswith(f" {dotted}") else f"{node.where}: {dotted or 'the table'}"
    )  # --set says it
    return f"{place}: {plain_message(problem)}{about}"


def plain_message(problem: Any) -> str:
    """Return what is wrong with a value, from one of pydantic's problems."""
    if problem["type"] == "value_error":  # one of our own validators: its sentence says it all
        return str(problem["ctx"]["error"])
    message = problem["msg"]
    return f"{message[0].lower()}{message[1:]}, found {problem['input']!r}"


def known_keys(config_type: type[Config], located: Located, path: list[str]) -> list[str]:
    """Return the keys that the section at ``path`` of ``config_type`` may have."""
    current: list[type[Config]] = [config_type]
    node: Located | None = located
    for part in path:
        node = node.get(part) if node is not None else None
        inner: list[type[Config]] = []
        for candidate in current:
            field = candidate.model_fields.get(part)
            if field is not None:
                inner += _config_types(field.annotation)
        chosen = [candidate for candidate in inner if _has_tag(candidate, node)]
        current = chosen or inner
    return [name for candidate in current for name in candidate.model_fields]


def _config_types(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _config_types(argument)]


def _has_tag(candidate: type[Config], node: Located | None) -> bool:
    for name in DISCRIMINATORS:
        field = candidate.model_fields.get(name)
        given = node.get(name) if node is not None else None
        if field is not None and given is not None:
            return given.value in getattr(field.annotation, "__args__", ())
    return True
