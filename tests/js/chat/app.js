/**
 * An app of the AI SDK as a stranger would write it: two chats on one `WebSocketChatTransport`, nothing of Millrace in it.
 * A test bundles it, and drives it through `window.chats`. What was on the screen is in `window.seen`.
 */

import { useChat } from "@ai-sdk/react";
import { lastAssistantMessageIsCompleteWithToolCalls, WebSocketChatTransport } from "ai";
import { createElement as h, StrictMode } from "react";
import { createRoot } from "react-dom/client";

const CHATS = ["one", "two"];
const protocols = [];

window.chats = {};
window.seen = Object.fromEntries(CHATS.map((id) => [id, []]));
window.told = Object.fromEntries(CHATS.map((id) => [id, []]));
window.sockets = 0;
window.ran = 0; // tools

const transport = new WebSocketChatTransport({
  url: "/v1/chat/ws",
  protocols,
  params: async () => {
    window.sockets++;
    if (window.freshTicket) protocols.splice(0, 2, "millrace.v1", `millrace.ticket.${await window.freshTicket()}`);
    return {};
  },
});

/** @param {{parts: {type: string, text?: string}[]}} message */
const textOf = ({ parts }) => parts.map(({ type, text }) => (type === "text" ? text : "")).join("");

/** @param {{id: string}} props */
function Chat({ id }) {
  const chat = useChat({
    id,
    transport,
    resume: true,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onData: (part) => void window.told[id].push(part),
    onToolCall: ({ toolCall }) => {
      const { toolName, toolCallId } = toolCall;
      window.ran++;
      void chat.addToolOutput({ tool: toolName, toolCallId, output: { degrees: 21 } });
    },
  });
  window.chats[id] = chat;
  const answers = chat.messages.filter(({ role }) => role === "assistant").map(textOf);
  window.seen[id].push(answers.at(-1) ?? "");
  return h(
    "section",
    { id },
    h("output", { className: "status" }, chat.status),
    h("p", { className: "error" }, chat.error?.message ?? ""),
    chat.messages.map((message) =>
      h("p", { key: message.id, className: message.role, "data-id": message.id }, textOf(message)),
    ),
  );
}

const main = document.createElement("main");
document.body.append(main);
createRoot(main).render(h(StrictMode, null, CHATS.map((id) => h(Chat, { id, key: id }))));
