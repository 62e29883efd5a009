"""Reads from source, without running it, which reasons its conditions and Events can have.

Each expression that stands where a reason does is followed to the words that it can be. One that
cannot be followed is an error: a new form of giving reasons is not passed over.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_GIVERS = {"no": 1, "yes": 1, "unknown": 1, "Verdict": 2, "Refused": 0, "Problem": 0, "post": 2}
"""Which argument is the reason, by function, method or class."""
_RAISED = frozenset({"Refused", "Problem"})
"""Classes whose subclasses have a reason too."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Unreadable(Exception):
    """A reason that is given in a form that is not known here."""


def _name(node: ast.expr) -> str:
    """Last part of a name: ``post`` of ``services.events.post``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _text(node: ast.expr | None) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
    return None


def _words(node: ast.expr | None) -> set[str] | None:
    """The words of a constant: one, or the set of them; None when it is something else."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.Set(elts=parts) | ast.Call(func=ast.Name("frozenset"), args=[ast.Set(elts=parts)]):
            texts = [_text(part) for part in parts]
            return {text for text in texts if text is not None} if all(texts) else None
        case ast.Subscript(value=ast.Name("Literal"), slice=within):
            parts = within.elts if isinstance(within, ast.Tuple) else [within]
            texts = [_text(part) for part in parts]
            return {text for text in texts if text is not None} if all(texts) else None
    return None


@dataclass
class Reader:
    """What is known of all sources together.

    Attributes:
        givers: Which argument is the reason, by name, with the subclasses of the sources.
        constants: Words of module constants, by name.
        typed: Words of ``reason: Literal[...]`` in what our own pods say, by class.
        functions: Functions by name.
        found: A place for each reason.
    """

    givers: dict[str, int] = field(default_factory=lambda: dict(_GIVERS))
    constants: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    typed: dict[str, set[str]] = field(default_factory=dict)
    functions: dict[str, list[Function]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, str] = field(default_factory=dict)

    def learn(self, tree: ast.Module) -> None:
        """Take in the constants and functions of a module."""
        for node in tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.constants[name] |= _words(value) or set()
                case ast.AnnAssign(target=ast.Name(id=name), value=value):
                    self.constants[name] |= _words(value) or set()
        for inner in ast.walk(tree):
            match inner:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    self.functions[name].append(inner)
                case ast.ClassDef(name=name, body=body):
                    for line in body:
                        match line:
                            case ast.AnnAssign(target=ast.Name("reason"), annotation=annotation):
                                self.typed[name] = _words(annotation) or set()

    def learn_classes(self, trees: Mapping[str, ast.Module]) -> dict[ast.ClassDef, bool]:
        """Find the classes that have a reason; gives each with whether it has an __init__."""
        found: dict[ast.ClassDef, bool] = {}
        names = set(_RAISED)
        classes = [n for tree in trees.values() for n in ast.walk(tree) if type(n) is ast.ClassDef]
        while new := [
            each
            for each in classes
            if each not in found and any(_name(base) in names for base in each.bases)
        ]:
            for each in new:
                names.add(each.name)
                found[each] = any(
                    isinstance(node, ast.FunctionDef) and node.name == "__init__"
                    for node in each.body
                )
                if not found[each]:
                    self.givers[each.name] = 0
        return found

    def read(self, file: str, tree: ast.Module, subclasses: Mapping[ast.ClassDef, bool]) -> None:
        """Find the reasons that a module gives.

        Raises:
            Unreadable: One cannot be followed.
        """
        for within, node in _with_function(tree):
            for expression in self._given(node):
                self._add(f"{file}:{node.lineno}", expression, within)
        for each in ast.walk(tree):
            if isinstance(each, ast.ClassDef) and subclasses.get(each):
                for within, node in _with_function(each):
                    match node:
                        case ast.Call(
                            func=ast.Attribute(value=ast.Call(func=ast.Name("super"))), args=[a, *_]
                        ):
                            self._add(f"{file}:{node.lineno}", a, within)

    def _given(self, node: ast.expr) -> Iterator[ast.expr]:
        """The expressions at the reason's place."""
        match node:
            case ast.Call(func=called, args=args, keywords=keywords):
                name, place = _name(called), self.givers.get(_name(called))
                if name == "__init__":
                    return
                if place is not None and len(args) > place:
                    yield args[place]
                elif place is not None and args and isinstance(args[-1], ast.Starred):
                    yield args[-1]
                if place is not None or name == "replace":
                    yield from (keyword.value for keyword in keywords if keyword.arg == "reason")
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if _text(key) == "reason":
                        yield value

    def _add(self, place: str, expression: ast.expr, within: Function | None) -> None:
        try:
            words = self._follow(expression, within)
        except Unreadable as error:
            raise Unreadable(f"{place}: {ast.unparse(expression)}: {error}") from error
        for word in words:
            self.found.setdefault(word, place)

    def _follow(  # noqa: PLR0911 - one return for each form
        self, node: ast.expr, within: Function | None, part: int | None = None
    ) -> set[str]:
        """The words that an expression can be.

        Args:
            node: The expression.
            within: The function that it stands in.
            part: Of an expression that is a tuple, which element.
        """
        match node:
            case ast.Starred(value=value):
                return self._follow(value, within, 0)
            case ast.Tuple(elts=parts) if part is not None:
                return self._follow(parts[part], within)
            case ast.Constant(value=None):
                return set()
            case ast.Constant(value=str(word)):
                return {word}
            case ast.IfExp(test=test, body=body, orelse=other):
                rest = self._follow(other, within, part)
                match test:
                    case ast.Compare(
                        left=same, ops=[ast.Eq()], comparators=[ast.Constant(value=str(b))]
                    ):
                        # `A if reason == "B" else reason` is never B
                        rest -= {b} if _name(same) == _name(other) else set()
                return self._follow(body, within, part) | rest
            case ast.Attribute(value=value, attr="reason"):
                # what is no message of a pod's was given its reason where it was made
                return self._typed(_name(value), within)
            case ast.Subscript(slice=ast.Constant("reason")) if within is not None:
                return self._allowed(within)
            case ast.Call(func=called) if part is not None and _name(called) in self.functions:
                return {
                    word
                    for function in self.functions[_name(called)]
                    for inner in ast.walk(function)
                    if isinstance(inner, ast.Return) and inner.value is not None
                    for word in self._follow(inner.value, function, part)
                }
            case ast.Name(id=name) | ast.Attribute(attr=name) if self.constants.get(name):
                return self.constants[name]
            case ast.Name(id=name) if within is not None:
                return self._local(name, within, part)
        raise Unreadable("not a form in which reasons are known to be given")

    def _allowed(self, function: Function) -> set[str]:
        """What a word of Kubernetes' may be: the constants that the function compares it with."""
        words = [
            self.constants[_name(node.comparators[0])]
            for node in ast.walk(function)
            if isinstance(node, ast.Compare)
            and isinstance(node.ops[0], ast.In)
            and _name(node.comparators[0]) in self.constants
        ]
        if not any(words):
            raise Unreadable("a word of Kubernetes' that is compared with no constant")
        return set().union(*words)

    def _typed(self, name: str, function: Function | None) -> set[str]:
        """The words of the message in a variable: of the class that a function of ours returns."""
        makers = [
            maker
            for node in (ast.walk(function) if function else ())
            if isinstance(node, ast.NamedExpr | ast.Assign)
            and isinstance(node.value, ast.Call)
            and name in [_name(t) for t in _targets(node)]
            for maker in self.functions[_name(node.value.func)]
        ]
        return {
            word
            for maker in makers
            for node in (ast.walk(maker.returns) if maker.returns else ())
            if isinstance(node, ast.Name)
            for word in self.typed.get(node.id, ())
        }

    def _local(self, name: str, function: Function, part: int | None) -> set[str]:
        """The words of a variable: of all that is assigned to it."""
        values: list[tuple[ast.expr, int | None]] = []
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    values.append((value, part))
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                    values += [(value, at) for at, t in enumerate(targets) if _name(t) == name]
        if values:
            return set().union(*(self._follow(value, function, at) for value, at in values))
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        handed_on = function.name in self.givers or function.name == "__init__"
        if handed_on and name in [argument.arg for argument in arguments]:
            return set()  # given by those who call it
        raise Unreadable("a variable without a value that is known")


def _targets(node: ast.NamedExpr | ast.Assign) -> list[ast.expr]:
    return [node.target] if isinstance(node, ast.NamedExpr) else node.targets


def _with_function(
    tree: ast.AST, within: Function | None = None
) -> Iterator[tuple[Function | None, ast.expr]]:
    """Every expression, with the innermost function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        inner = node if isinstance(node, Function) else within
        if isinstance(node, ast.expr):
            yield inner, node
        yield from _with_function(node, inner)


def given(sources: Mapping[str, str]) -> dict[str, str]:
    """Every reason that the sources give, with a place where one is given.

    Args:
        sources: Text by name of the file.

    Raises:
        Unreadable: A reason is given in a form that is not known here.
    """
    trees = {file: ast.parse(text) for file, text in sources.items()}
    reader = Reader()
    for tree in trees.values():
        reader.learn(tree)
    subclasses = reader.learn_classes(trees)
    for file, tree in trees.items():
        reader.read(file, tree, subclasses)
    return reader.found
