"""What every check of an exercise shares: one sentence in answer to whatever stands in the reader's cell.

An untouched stub is not an error: "Not tried yet." An answer that is wrong is told what is wrong with it, one that
raises is told what it raised; nothing that a reader writes stops the notebook.
"""

import dis
import functools
from collections.abc import Callable
from numbers import Real

NOT_TRIED = "Not tried yet."


class NotTried(Exception):
    """The answer is still the stub."""


class Wrong(Exception):
    """The answer is wrong; the message is the sentence for the reader."""


def is_stub(answer) -> bool:
    """Whether an answer is untouched: ``...``, ``None``, a collection of these, or a function without a body."""
    if answer is ... or answer is None or answer is NotImplemented:
        return True
    if isinstance(answer, dict):
        return any(is_stub(value) for value in answer.values()) or not answer
    if isinstance(answer, list | tuple | set):
        return any(is_stub(value) for value in answer) or not answer
    code = getattr(answer, "__code__", None)
    # `...`, `pass` and a docstring leave nothing behind but "return None".
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    return (code is not None and {step.opname for step in dis.get_instructions(code)} <= idle
            and set(code.co_consts) <= {None, ..., answer.__doc__})


def call(function: Callable, *args):
    """What the reader's function returns.

    Raises:
        NotTried: it is not written yet.
        Wrong: it returns nothing, or raises.
    """
    if is_stub(function):
        raise NotTried
    name = getattr(function, "__name__", "your function")
    if not callable(function):
        raise Wrong(f"This is {function!r}, not a function: keep the line that begins with def.")
    try:
        answer = function(*args)
    except NotImplementedError:
        raise NotTried from None
    except Exception as error:
        raise Wrong(f"{name} raised {type(error).__name__}: "
                    f"{str(error).splitlines()[0] if str(error) else 'no message'}") from None
    if answer is None:
        raise Wrong(f"{name} returns nothing: let it end with return and the answer.")
    if answer is ...:
        raise NotTried
    return answer


def number(answer, what: str = "The answer") -> float:
    """An answer as a number; `Wrong` if it is none."""
    answer = answer.item() if hasattr(answer, "item") and getattr(answer, "size", 1) == 1 else answer
    if not isinstance(answer, Real) or isinstance(answer, bool):
        raise Wrong(f"{what} is {answer!r}, but it has to be a number.")
    return float(answer)


def close(one: float, other: float, share: float = 0.01) -> bool:
    """Whether two numbers agree to a share of the second."""
    return abs(one - other) <= share * abs(other)


def exercise(check: Callable[..., str]) -> Callable[..., None]:
    """Make a check of a function that returns the sentence for a right answer and raises `Wrong` for any other.

    The first argument is the reader's answer. The result prints one sentence and returns nothing.
    """

    @functools.wraps(check)
    def run(answer, *args, **kwargs) -> None:
        try:
            if is_stub(answer):
                raise NotTried
            print(f"Right: {check(answer, *args, **kwargs)}")
        except NotTried:
            print(NOT_TRIED)
        except Wrong as wrong:
            print(f"Not yet: {wrong}")
        except Exception as error:  # an answer of another kind than the check can look at
            print(f"Not yet: your answer could not be looked at ({type(error).__name__}: {error}); compare its form "
                  "with the task.")

    return run
