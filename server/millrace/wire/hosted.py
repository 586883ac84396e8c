"""Tools of the Responses API that are no functions of the client's, and the items that come of them.

The provider runs most of them. Nothing in them is read here: they go to a provider that has the API as they came, and
are left out for any other.
"""

from msgspec import Struct


class HostedTool(Struct):
    """A tool that the provider has of its own. Its fields are not read."""


class WebSearch(HostedTool, tag="web_search"):
    """The provider searches the web."""


class WebSearch2025(HostedTool, tag="web_search_2025_08_26"):
    """The same, in the version of that day."""


class WebSearchPreview(HostedTool, tag="web_search_preview"):
    """The provider searches the web, by the earlier name."""


class WebSearchPreview2025(HostedTool, tag="web_search_preview_2025_03_11"):
    """The same, in the version of that day."""


class FileSearch(HostedTool, tag="file_search"):
    """The provider searches files that it stores."""


class CodeInterpreter(HostedTool, tag="code_interpreter"):
    """The provider runs code."""


class ImageGeneration(HostedTool, tag="image_generation"):
    """The provider makes images."""


class Mcp(HostedTool, tag="mcp"):
    """The provider calls tools of an MCP server."""

    server_label: str = ""


class Computer(HostedTool, tag="computer"):
    """The model uses a computer that the client has."""


class ComputerUsePreview(HostedTool, tag="computer_use_preview"):
    """The same, by the earlier name."""


class LocalShell(HostedTool, tag="local_shell"):
    """The model runs commands in a shell that the client has."""


class Shell(HostedTool, tag="shell"):
    """The model runs commands in a shell, of the client or of the provider."""


class ApplyPatch(HostedTool, tag="apply_patch"):
    """The model changes files that the client has."""


class ToolSearch(HostedTool, tag="tool_search"):
    """The model looks for tools that are not in its prompt."""


class ProgrammaticToolCalling(HostedTool, tag="programmatic_tool_calling"):
    """The provider runs programs of the model that call tools."""


AnyHostedTool = (
    WebSearch
    | WebSearch2025
    | WebSearchPreview
    | WebSearchPreview2025
    | FileSearch
    | CodeInterpreter
    | ImageGeneration
    | Mcp
    | Computer
    | ComputerUsePreview
    | LocalShell
    | Shell
    | ApplyPatch
    | ToolSearch
    | ProgrammaticToolCalling
)


class HostedItem(Struct, gc=False):
    """An item that only the Responses API has. Its fields are not read."""


class AnswerItem(HostedItem, gc=False):
    """One that a model's answer has."""


class WebSearchCall(AnswerItem, tag="web_search_call"):
    """A search of the web."""


class FileSearchCall(AnswerItem, tag="file_search_call"):
    """A search of files."""


class CodeInterpreterCall(AnswerItem, tag="code_interpreter_call"):
    """Code that the provider ran."""


class ImageGenerationCall(AnswerItem, tag="image_generation_call"):
    """An image that the provider made."""


class ComputerCall(AnswerItem, tag="computer_call"):
    """What the model wants done on a computer."""


class LocalShellCall(AnswerItem, tag="local_shell_call"):
    """A command that the model wants run."""


class ShellCall(AnswerItem, tag="shell_call"):
    """Commands that the model wants run."""


class ApplyPatchCall(AnswerItem, tag="apply_patch_call"):
    """A change of a file that the model wants made."""


class ToolSearchCall(AnswerItem, tag="tool_search_call"):
    """A search for tools."""


class McpListTools(AnswerItem, tag="mcp_list_tools"):
    """The tools of an MCP server."""


class McpApprovalRequest(AnswerItem, tag="mcp_approval_request"):
    """A call of an MCP server's tool that waits for approval."""


class McpCall(AnswerItem, tag="mcp_call"):
    """A call of an MCP server's tool."""


class Program(AnswerItem, tag="program"):
    """A program of the model that calls tools."""


class ProgramOutput(AnswerItem, tag="program_output"):
    """The result of such a program."""


class Compaction(AnswerItem, tag="compaction"):
    """What the provider made of an earlier part of the conversation."""


class ClientItem(HostedItem, gc=False):
    """One that the client has written."""


class ComputerCallOutput(ClientItem, tag="computer_call_output"):
    """What a computer shows."""


class LocalShellCallOutput(ClientItem, tag="local_shell_call_output"):
    """What a command wrote."""


class ShellCallOutput(ClientItem, tag="shell_call_output"):
    """What commands wrote."""


class ApplyPatchCallOutput(ClientItem, tag="apply_patch_call_output"):
    """What became of a change of a file."""


class ToolSearchOutput(ClientItem, tag="tool_search_output"):
    """The tools that were found."""


class McpApprovalResponse(ClientItem, tag="mcp_approval_response"):
    """Whether a call of an MCP server's tool is approved."""


class CompactionTrigger(ClientItem, tag="compaction_trigger"):
    """Asks the provider to compact the conversation so far."""


AnyAnswerItem = (
    WebSearchCall
    | FileSearchCall
    | CodeInterpreterCall
    | ImageGenerationCall
    | ComputerCall
    | LocalShellCall
    | ShellCall
    | ApplyPatchCall
    | ToolSearchCall
    | McpListTools
    | McpApprovalRequest
    | McpCall
    | Program
    | ProgramOutput
    | Compaction
)
AnyClientItem = (
    ComputerCallOutput
    | LocalShellCallOutput
    | ShellCallOutput
    | ApplyPatchCallOutput
    | ToolSearchOutput
    | McpApprovalResponse
    | CompactionTrigger
)
