"""What only some installations have: the model of ``HEADRACE_MODEL``.

The one module besides the loader that imports inside a function: ``langchain`` comes with the extra
``models``, and its providers with packages of their own.
"""

from langchain_core.language_models import BaseChatModel

from headrace.error_text import first_line
from headrace.errors import StartupRefusal


def chat_model(name: str) -> BaseChatModel:
    """The model of an ``init_chat_model`` string, for example ``openai:gpt-5``.

    :raises StartupRefusal: HR110 a package or a key is missing, or nobody offers such a model.
    """
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415
    except ImportError:
        raise _refusal(
            name,
            "the package langchain is not installed",
            "Run pip install 'headrace[models]', or unset HEADRACE_MODEL for the model that needs"
            " no key.",
        ) from None
    try:
        return init_chat_model(name)
    except ImportError as error:
        raise _refusal(
            name, first_line(error).rstrip("."), "Install the provider's package."
        ) from error
    except Exception as error:
        # Each provider has errors of its own for a key that is missing.
        raise _refusal(
            name,
            first_line(error).rstrip("."),
            "Set the provider's key, for example OPENAI_API_KEY, or unset HEADRACE_MODEL for the"
            " model that needs none.",
        ) from error


def _refusal(name: str, what: str, remedy: str) -> StartupRefusal:
    return StartupRefusal("HR110", where=f"HEADRACE_MODEL={name}", what=what, remedy=remedy)
