// Commands: asked for, confirmed in a dialog, sent, and what came of them said.
import { $, button, nameOf, setText } from "./page.parts.js";

let wanted = null; // what the dialog is about
let send = async () => {};

// `request(method, path)` sends with whatever is needed to be let in; `after` is called when something may have changed.
export function prepare(request, after) {
  send = async ({ method, path, done }) => {
    try {
      const response = await request(method, path);
      const text = (await response.text()).trim().split("\n");
      if (response.ok) say(`${done} ${text.slice(1).join(" ")}`.trim(), true);
      else say(`Refused (${response.status}): ${text.join(". ")}`, false);
    } catch {
      say("No answer: whether it was done is not known.", false);
    }
    after();
  };
  $("dialog-no").addEventListener("click", () => $("dialog").close());
  $("dialog-yes").addEventListener("click", () => {
    const action = wanted;
    $("dialog").close();
    if (action) send(action);
  });
  $("dialog").addEventListener("close", () => (wanted = null));
}

function say(text, isGood) {
  $("said").hidden = false;
  $("said").className = "banner " + (isGood ? "good" : "bad");
  setText($("said"), `${new Date().toLocaleTimeString()} · ${text}`);
}

function ask(action) {
  wanted = action;
  setText($("dialog-title"), action.title);
  setText($("dialog-text"), action.text);
  setText($("dialog-yes"), action.yes);
  $("dialog").showModal();
}

const where = ({ project, database }) => new URLSearchParams({ project, database }).toString().replaceAll("+", "%20");
const placeOf = ({ project, database }) => (project === "*" ? database : `${database} of ${project}`);

const onPool = (verb, text, done) => (pool) =>
  button(verb, () =>
    ask({
      title: `${verb} ${placeOf(pool)}?`,
      text,
      yes: verb,
      method: "POST",
      path: `/api/${verb.toLowerCase()}?${where(pool)}`,
      done: `${placeOf(pool)} ${done}`,
    }),
  );

export const pause = onPool(
  "Pause",
  "Its clients, of all users and on both ports, get no servers any more and wait, for no longer than timeouts.queue_wait. Servers are closed as they come back. Resume ends it.",
  "is paused.",
);
export const resume = onPool("Resume", "Its clients get servers again.", "is resumed.");
export const reconnect = onPool(
  "Reconnect",
  "Every server connection is replaced: idle ones at once, the others when they come back. No client notices.",
  "is being reconnected.",
);

export const disable = onPool(
  "Disable",
  "New clients of this database are refused (55000), of all users and on both ports. Those who are there stay. Enable ends it.",
  "takes no new clients.",
);
export const enable = onPool("Enable", "New clients are let in again.", "takes new clients again.");
export const kill = onPool(
  "Kill",
  "All of its clients, of all users and on both ports, are told 57P01 and end; what they run is cancelled and rolled back. It stays paused until Resume all.",
  "has no clients any more, and is paused.",
);

export const end = (client) =>
  button(
    "End",
    () =>
      ask({
        title: `End client ${client.client_id}?`,
        text: `${client.application_name || "A client without an application name"}, ${nameOf(client)}. It is told 57P01; what it runs is cancelled and rolled back.`,
        yes: "End it",
        method: "POST",
        path: `/api/kill_client?id=${client.client_id}`,
        done: `Client ${client.client_id} was ended.`,
      }),
    { "aria-label": `End client ${client.client_id}` },
  );

export const resumeAll = () =>
  button("Resume all", () =>
    ask({
      title: "Resume everything?",
      text: "Every pause ends, of whatever it was.",
      yes: "Resume",
      method: "POST",
      path: "/api/resume",
      done: "Everything is resumed.",
    }),
  );

export const reload = () =>
  button("Reload", () =>
    ask({
      title: "Reload the configuration?",
      text: "It is read again and checked as a whole first: a mistake is told, and changes nothing.",
      yes: "Reload",
      method: "PUT",
      path: "/api/reload",
      done: "The configuration was reloaded.",
    }),
  );
