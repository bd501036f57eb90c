// The live part of the pages. Every page works without it; see ../README.md for what it adds.
// Order: talking to the API, telling the member, actions, reading on, measuring, keys, forms.

const UNDO_MS = 6000; // a hidden card may be taken back this long
const IMPRESSION_MS = 1000; // half a card visible this long is an impression
const DWELL_MS = 8000; // and this long is a long dwell
const FLUSH_MS = 2000; // what was measured waits at most this long
const BATCH_MAX = 200; // fewer than the API takes in one batch
const BACKLOG_MAX = 1000; // while offline; the oldest are dropped first

const body = document.body;
const me = body.dataset.me ?? "";
const version = body.dataset.version ?? "";
const ahead = Date.parse(body.dataset.now) - Date.now() || 0; // of this machine's clock
const now = () => new Date(Date.now() + ahead).toISOString();
const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const cardOf = (node) => node.closest("[data-post], [data-profile]");

// ---------------------------------------------------------------- talking to the API

class Problem extends Error {
  constructor(status, said) {
    super(said.detail || said.title || `the server answered ${status}`);
    this.status = status;
    this.next = said.next_step || "";
  }
}

async function call(method, path, content, { keepalive = false } = {}) {
  const headers = { accept: "application/json" };
  if (content !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      keepalive,
      credentials: "same-origin",
      body: content === undefined ? undefined : JSON.stringify(content),
    });
  } catch {
    throw new Problem(0, { detail: "The server cannot be reached.", next_step: "Check the connection." });
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer;
}

// A batch is answered with 200 even where items in it were refused.
async function engage(item, options) {
  const answer = await call("POST", "/v1/engagements", { items: [item] }, options);
  const [refused] = (await answer.json()).rejected;
  if (refused) throw new Problem(422, { detail: refused.reason });
}

async function fragment(path) {
  let answer;
  try {
    answer = await fetch(path, { headers: { "x-fragment": "1" }, credentials: "same-origin" });
  } catch {
    throw new Problem(0, { detail: "The server cannot be reached.", next_step: "Check the connection." });
  }
  if (answer.redirected) throw new Problem(401, {});
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer.text();
}

// ---------------------------------------------------------------- telling the member

function toast(text, { bad = false, link = null, stay = 5000 } = {}) {
  const line = document.createElement("div");
  line.className = bad ? "toast bad" : "toast";
  const words = document.createElement("span");
  words.textContent = text;
  line.append(words);
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link.href;
    anchor.textContent = link.text;
    line.append(anchor);
  }
  const tray = $("[data-toasts]");
  while (tray.children.length >= 3) tray.firstChild.remove();
  tray.append(line);
  setTimeout(() => line.remove(), bad ? stay * 2 : stay);
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function tell(problem, what) {
  if (problem.status === 401) {
    const next = encodeURIComponent(location.pathname + location.search);
    const link = { href: `/sign-in?next=${next}`, text: "Sign in" };
    toast("Your session has ended.", { bad: true, link, stay: 15000 });
  } else {
    toast([what, problem.message, problem.next].filter(Boolean).map(sentence).join(" "), { bad: true });
  }
}

function short(number) {
  if (number < 1000) return number ? String(number) : "";
  const [size, letter] = number < 1e6 ? [1e3, "k"] : number < 1e9 ? [1e6, "M"] : [1e9, "B"];
  const tenths = Math.floor((number * 10) / size);
  return (tenths < 100 && tenths % 10 ? tenths / 10 : Math.floor(tenths / 10)) + letter;
}

function addTo(button, step) {
  const count = $(".count", button);
  const number = Math.max(0, Number(count.dataset.count) + step);
  count.dataset.count = number;
  count.textContent = short(number);
}

// ---------------------------------------------------------------- actions
// Each shows its effect at once, asks the server, and takes the effect back when that fails.

const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

async function like(button, card) {
  if (button.ariaBusy === "true") return; // one request at a time keeps the order of clicks
  const on = !pressed(button);
  const show = (state) => (press(button, state), addTo(button, state ? 1 : -1));
  show(on);
  button.ariaBusy = "true";
  try {
    await call(on ? "PUT" : "DELETE", `/v1/posts/${card.dataset.post}/reactions/like`);
  } catch (problem) {
    show(!on);
    tell(problem, on ? "The like was not saved" : "The like was not taken back");
  } finally {
    button.ariaBusy = "false";
  }
}

async function follow(button, card) {
  if (button.ariaBusy === "true") return;
  const on = !pressed(button);
  const author = card.dataset.author;
  const show = (state) => {
    for (const other of all("[data-post], [data-profile]")) {
      if (other.dataset.author !== author) continue;
      const twin = $('[data-do="follow"]', other);
      if (twin) press(twin, state);
    }
  };
  show(on);
  button.ariaBusy = "true";
  try {
    await call(on ? "PUT" : "DELETE", `/v1/members/${me}/follows/${author}`);
  } catch (problem) {
    show(!on);
    tell(problem, on ? "Nobody was followed" : "The follow was not taken back");
  } finally {
    button.ariaBusy = "false";
  }
}

async function share(button, card) {
  const address = `${location.origin}/posts/${card.dataset.post}`;
  try {
    await navigator.clipboard.writeText(address);
  } catch {
    // No right to the clipboard: a sheet to share with, or the address itself.
    if (!navigator.share) return toast(`Copy this address: ${address}`, { stay: 15000 });
    try {
      await navigator.share({ url: address });
    } catch {
      return; // the member changed their mind
    }
  }
  toast("Link copied.");
  addTo(button, 1);
  try {
    await engage(engagement(card, "share"));
  } catch (problem) {
    addTo(button, -1);
    tell(problem, "The share was not counted");
  }
}

// A hide is sent when the time for undo is over, or when the page is left.
const hiding = new Map();

function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  if (name === "button") node.type = "button";
  return node;
}

// What stands where a card was, with the way back where there is one.
function fold(card, text, undo) {
  const line = element("p", "gone-note", "");
  line.setAttribute("role", "status");
  line.append(element("span", "grow", text));
  card.prepend(line);
  card.classList.add("gone");
  unwatch(card);
  if (undo) {
    const button = element("button", "text-button", "Undo");
    button.addEventListener("click", undo);
    line.append(button);
    button.focus({ preventScroll: true });
  } else card.focus({ preventScroll: true });
}

function hide(button, card) {
  fold(card, "Hidden. You will see less like this.", () => restore(card, true));
  hiding.set(card, setTimeout(() => commitHide(card), UNDO_MS));
}

function restore(card, focus) {
  clearTimeout(hiding.get(card));
  hiding.delete(card);
  $(".gone-note", card)?.remove();
  card.classList.remove("gone");
  watch(card);
  if (focus) $('[data-do="hide"]', card)?.focus({ preventScroll: true });
}

async function commitHide(card, keepalive = false) {
  clearTimeout(hiding.get(card));
  hiding.delete(card);
  try {
    await engage(engagement(card, "hide"), { keepalive });
    $(".gone-note .text-button", card)?.remove();
  } catch (problem) {
    restore(card, false);
    tell(problem, "The post was not hidden");
  }
}

// Muting is quiet and asks nothing. A block is felt by two, so it asks.
const against = {
  mute: {
    list: "mutes",
    failed: "Nobody was muted",
    done: (who) => `You muted ${who}. Their posts leave your feed.`,
  },
  block: {
    list: "blocks",
    failed: "Nobody was blocked",
    sure: (who) => [`Block ${who}?`, "Neither of you sees the other any more, and neither follows the other.", "Block"],
    done: (who) => `You blocked ${who}. Neither of you sees the other.`,
  },
};

// On a card it is an engagement with the post, and teaches the feed; on a profile it is only that.
function turn(card, kind, list) {
  if (card.dataset.post) return engage(engagement(card, kind));
  return call("PUT", `/v1/members/${me}/${list}/${card.dataset.author}`);
}

function sure([title, words, yes]) {
  const sheet = $("#sure");
  $("h2", sheet).textContent = title;
  $("#sure-words").textContent = words;
  $("[data-yes]", sheet).textContent = yes;
  sheet.returnValue = "";
  sheet.showModal();
  return new Promise((answer) => {
    sheet.addEventListener("close", () => answer(sheet.returnValue === "yes"), { once: true });
  });
}

async function turnAway(button, card) {
  const kind = button.dataset.do;
  const { list, failed, sure: asked, done } = against[kind];
  const author = card.dataset.author;
  const who = $(".author strong", card).textContent;
  closeMenus();
  if (asked && !(await sure(asked(who)))) return;
  const others = all("[data-post]").filter((one) => one !== card && one.dataset.author === author);
  try {
    // A hide that waits would find no post after a block.
    await Promise.all(others.filter((one) => hiding.has(one)).map((one) => commitHide(one)));
    await turn(card, kind, list);
  } catch (problem) {
    return tell(problem, failed);
  }
  for (const one of others) one.hidden = true;
  fold(card, done(who), async () => {
    try {
      await call("DELETE", `/v1/members/${me}/${list}/${author}`);
    } catch (problem) {
      return tell(problem, "It was not taken back");
    }
    for (const one of others) one.hidden = false;
    restore(card, true);
  });
}

// A report says why, and cannot be taken back: the form comes into a dialog and goes from there.
async function report(link, card) {
  const sheet = $("#report");
  const place = $("[data-report]", sheet);
  closeMenus();
  try {
    // Our own server rendered and escaped this fragment.
    place.innerHTML = await fragment(link.getAttribute("href"));
  } catch (problem) {
    return tell(problem, "The form did not load");
  }
  sheet.showModal();
  place.onsubmit = async (event) => {
    event.preventDefault();
    const form = event.target;
    $('button[type="submit"]', form).disabled = true;
    try {
      const refused = await send(form);
      if (refused) return void (place.innerHTML = refused);
    } catch (problem) {
      $('button[type="submit"]', form).disabled = false;
      return tell(problem, "The report was not taken");
    }
    sheet.close();
    if (card?.dataset.post && !link.closest(".remark")) fold(card, "Reported. You will not see this post again.");
    else toast("Reported. A moderator looks at it.");
  };
}

// Send a form as the browser would. Returns the form again where the server refused it.
async function send(form) {
  let answer;
  try {
    const body = new URLSearchParams(new FormData(form));
    answer = await fetch(form.action, { method: "POST", body, headers: { "x-fragment": "1" }, credentials: "same-origin" });
  } catch {
    throw new Problem(0, { detail: "The server cannot be reached.", next_step: "Check the connection." });
  }
  if (answer.status === 422 && answer.headers.get("content-type")?.startsWith("text/html")) return answer.text();
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return "";
}

// Everybody whom the member turned away, with the way back.
async function away() {
  const sheet = $("#away");
  const place = $("[data-away]", sheet);
  closeMenus();
  place.replaceChildren(element("li", "bone", ""));
  sheet.showModal();
  try {
    const lines = [];
    for (const [list, state, undo] of [["blocks", "blocked", "Unblock"], ["mutes", "muted", "Unmute"]]) {
      const answer = await call("GET", `/v1/members/${me}/${list}?limit=100`);
      for (const one of (await answer.json()).items) lines.push(awayLine(list, one, state, undo));
    }
    place.replaceChildren(...(lines.length ? lines : [element("li", "quiet-text", "Nobody. Whoever you mute or block stands here.")]));
  } catch (problem) {
    sheet.close();
    tell(problem, "The list did not load");
  }
}

function awayLine(list, member, state, undo) {
  const line = element("li", "", "");
  const button = element("button", "text-button", undo);
  button.append(element("span", "unseen", ` ${member.display_name}`));
  line.append(element("span", "grow", `${member.display_name} · ${state}`), button);
  button.addEventListener("click", async () => {
    try {
      await call("DELETE", `/v1/members/${me}/${list}/${member.id}`);
      line.replaceChildren(element("span", "grow quiet-text", `${member.display_name} is no longer ${state}.`));
    } catch (problem) {
      tell(problem, "It was not taken back");
    }
  });
  return line;
}

function closeMenus(but = null) {
  for (const menu of all(".menu[open]")) {
    if (menu.contains(but)) continue;
    if (menu.contains(document.activeElement)) $("summary", menu).focus({ preventScroll: true });
    menu.open = false;
  }
}
document.addEventListener("click", (event) => closeMenus(event.target));

const whySheet = $("#why");

async function why(link) {
  const place = $("[data-why]", whySheet);
  place.innerHTML = '<h2 id="why-title">Why this post?</h2><div class="bone"></div>';
  whySheet.showModal();
  try {
    // Our own server rendered and escaped this fragment.
    place.innerHTML = await fragment(link.getAttribute("href"));
  } catch (problem) {
    whySheet.close();
    tell(problem, "The explanation did not load");
  }
}

function unfold(link, card) {
  const prose = $("[data-prose]", card);
  prose.classList.remove("folded");
  prose.tabIndex = -1;
  prose.focus({ preventScroll: true });
  link.remove();
  queueEngagement(card, "click");
}

function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.cookie = `millrace_theme=${next}; path=/; max-age=31536000; samesite=lax`;
}

// ---------------------------------------------------------------- posts that come meanwhile
// Nothing moves until the member asks: the posts wait behind a button, and go on top of the feed.

const fresh = new Set(); // they wait
const taken = new Set(); // they were asked for: on the page, or gone meanwhile
let beyond = false; // there are more than are named

function sayWaiting() {
  const words = `${fresh.size}${beyond ? "+" : ""} newer ${fresh.size === 1 && !beyond ? "post is" : "posts are"} waiting`;
  $("[data-newer]").hidden = !fresh.size;
  $("[data-newer-words]").textContent = words;
  clearTimeout(sayWaiting.timer); // one sentence for posts that come together
  sayWaiting.timer = setTimeout(() => ($("[data-newer-said]").textContent = fresh.size ? words : ""), 1000);
}

async function newer(button) {
  if (button.ariaBusy === "true") return;
  const keys = [...fresh];
  button.ariaBusy = "true";
  try {
    const holder = document.createElement("template");
    holder.innerHTML = await fragment(`/feed/newer?posts=${keys.join(",")}`);
    const cards = all("[data-post]", holder.content).filter((card) => !document.getElementById(card.id));
    keys.forEach((key) => (fresh.delete(key), taken.add(key)));
    $("[data-feed] > .empty")?.remove();
    $("[data-feed]").prepend(...cards);
    cards.forEach((card) => (card.classList.add("fresh"), watch(card)));
    if (cards.length) goTo(cards[0]);
    else toast("They are gone already.");
  } catch (problem) {
    tell(problem, "The newer posts did not load");
  } finally {
    button.ariaBusy = "false";
    sayWaiting();
  }
}

function hear(event) {
  const { posts, more: others } = JSON.parse(event.data);
  fresh.clear();
  for (const key of posts) if (!taken.has(key) && !document.getElementById(`post-${key}`)) fresh.add(key);
  beyond = others && fresh.size > 0;
  sayWaiting();
}

// The browser connects again by itself; without an answer the feed is what it was. A browser has six
// connections to a server: tabs that nobody looks at hold none, or the seventh would not load.
function listen(about, name, told) {
  if (!me) return () => false;
  let source = null;
  const rest = () => {
    source?.close();
    source = null;
  };
  const hearken = () => {
    if (source || document.hidden) return;
    source = new EventSource(`/v1/members/${me}/events?${about}`);
    source.addEventListener(name, told);
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : hearken()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", hearken);
  hearken();
  return () => source?.readyState === EventSource.OPEN;
}

// A thread is looked at again when its stream says so, and without a stream now and then, while its
// post is in front of somebody; what they type stays, and where they are nothing moves until they left.
const THREAD_MS = 8000;

function followThread(place) {
  let stale = false;
  const look = async () => (stale = (await refreshThread(place)) === false);
  const connected = listen(`post_id=${place.dataset.of}`, "thread", look);
  setInterval(() => (stale || !connected()) && look(), THREAD_MS);
}

// Returns false where it is to be tried again.
async function refreshThread(place) {
  if (document.hidden || place.contains(document.activeElement) || $("details[open]", place)) return false;
  try {
    const holder = document.createElement("template");
    holder.innerHTML = await fragment(place.dataset.thread);
    const before = all(".remark", place).length;
    const remarks = all(".remark", holder.content);
    if (place.innerHTML.trim() === holder.innerHTML.trim()) return;
    const known = new Set(all(".remark", place).map((remark) => remark.id));
    place.replaceChildren(holder.content);
    for (const remark of all(".remark", place)) if (!known.has(remark.id)) remark.classList.add("fresh");
    const count = remarks.length;
    const words = $("[data-count]", place)?.dataset.count;
    $("[data-comments]").textContent = words;
    if (count > before) toastQuietly(`${count - before} new ${count - before === 1 ? "comment" : "comments"}`);
  } catch {
    return false; // The next look may find the server again; nobody asked for this one.
  }
}

// Figures are asked for again while somebody looks at them.
const FIGURES_MS = 5000;

async function refreshFigures(place) {
  if (document.hidden || place.ariaBusy === "true" || place.contains(document.activeElement)) return;
  place.ariaBusy = "true";
  try {
    const holder = document.createElement("template");
    holder.innerHTML = await fragment(place.dataset.refresh);
    place.replaceChildren(holder.content);
  } catch {
    $("[data-refresh-words]", place).textContent = "and the server has not answered since";
  } finally {
    place.ariaBusy = "false";
  }
}

// What takes a while to count comes after the page; without the module its link asks for it.
async function later(link) {
  const place = document.getElementById(link.dataset.later);
  const words = element("span", "", "Counting who gets each …");
  link.replaceWith(words);
  place.ariaBusy = "true";
  try {
    const holder = document.createElement("template");
    holder.innerHTML = await fragment(link.getAttribute("href"));
    if (!place.contains(document.activeElement)) place.replaceChildren(holder.content);
    else words.replaceWith(link);
  } catch {
    words.replaceWith(link);
  } finally {
    words.remove();
    place.ariaBusy = "false";
  }
}

// Back to the very feed that one came from, with its place; a link to it would rank a new one.
function back(link) {
  const from = document.referrer ? new URL(document.referrer) : null;
  if (from && from.origin === location.origin && from.pathname === "/") history.back();
  else location.assign(link.href);
}

const actions = {
  like, follow, share, hide, unfold, theme, back, away, newer,
  mute: turnAway, block: turnAway, report,
  why: (link) => why(link),
  help: () => $("#help").showModal(),
  compose: () => $("#compose-text")?.focus(),
};

document.addEventListener("click", (event) => {
  const node = event.target.closest("[data-do], [data-click], dialog");
  if (!node) return;
  if (node.matches("dialog") && event.target === node) return node.close(); // the ground behind it
  const card = cardOf(node);
  if (node.matches("[data-click]") && card) queueEngagement(card, "click");
  const act = actions[node.dataset.do];
  const elsewhere = event.metaKey || event.ctrlKey || event.shiftKey || event.button;
  if (!act || (node.matches("a") && elsewhere)) return;
  event.preventDefault();
  act(node, card);
});

// ---------------------------------------------------------------- reading on

async function more(place) {
  if (place.ariaBusy === "true") return;
  const link = $("a", place);
  const feed = $("[data-feed]");
  place.ariaBusy = feed.ariaBusy = "true";
  const bone = document.createElement("div");
  bone.className = "bone";
  place.before(bone);
  try {
    const holder = document.createElement("template");
    holder.innerHTML = await fragment(link.dataset.fragment);
    const cards = all("[data-post]", holder.content);
    const hadFocus = place.contains(document.activeElement);
    place.replaceWith(holder.content);
    cards.forEach(watch);
    all("[data-more]").forEach((next) => nearEnd.observe(next));
    if (hadFocus) cards[0]?.focus();
    toastQuietly(`${cards.length} more posts`);
  } catch (problem) {
    place.ariaBusy = "false";
    nearEnd.unobserve(place); // trying again is the member's choice now
    link.lastChild.textContent = "Try again";
    tell(problem, "More posts did not load");
  } finally {
    bone.remove();
    feed.ariaBusy = "false";
  }
}

function toastQuietly(text) {
  const line = document.createElement("span");
  line.className = "unseen";
  line.textContent = text;
  $("[data-toasts]").append(line);
  setTimeout(() => line.remove(), 3000);
}

const nearEnd = new IntersectionObserver(
  (seen) => seen.filter((entry) => entry.isIntersecting).forEach((entry) => more(entry.target)),
  { rootMargin: "600px" },
);
document.addEventListener("click", (event) => {
  const place = event.target.closest("[data-more]");
  if (!place || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  more(place);
});

// ---------------------------------------------------------------- measuring
// What was shown and for how long. Nothing about a member's own posts.

const waiting = { impressions: [], engagements: [] };
const timers = new Map();
let flushing = 0;

const surfaceOf = (card) => (card.dataset.position === undefined ? "post" : "feed");

function engagement(card, kind, more = {}) {
  const item = { member_id: me, post_id: card.dataset.post, kind, happened_at: now(), surface: surfaceOf(card), app_version: version, ...more };
  if (card.dataset.position !== undefined) item.position = Number(card.dataset.position);
  return item;
}

function queueEngagement(card, kind, more) {
  if (!me || "own" in card.dataset) return;
  waiting.engagements.push(engagement(card, kind, more));
  flushSoon();
}

function queueImpression(card) {
  waiting.impressions.push({
    member_id: me,
    post_id: card.dataset.post,
    shown_at: now(),
    position: Number(card.dataset.position),
    surface: "feed",
    served_feed_id: card.dataset.served,
    app_version: version,
  });
  flushSoon();
}

function flushSoon() {
  flushing ||= setTimeout(flush, FLUSH_MS);
}

async function flush({ leaving = false } = {}) {
  clearTimeout(flushing);
  flushing = 0;
  for (const kind of ["impressions", "engagements"]) {
    while (waiting[kind].length) {
      const items = waiting[kind].splice(0, BATCH_MAX);
      try {
        await call("POST", `/v1/${kind}`, { items }, { keepalive: leaving });
      } catch (problem) {
        if (problem.status === 401) return tell(problem, "");
        // A refused batch would be refused again; anything else is kept until there is an answer.
        const again = problem.status === 0 || problem.status === 429 || problem.status >= 500;
        if (!again) return console.warn(`${kind} were not taken: ${problem.message}`);
        waiting[kind] = [...items, ...waiting[kind]].slice(-BACKLOG_MAX);
        return void setTimeout(flush, 10 * FLUSH_MS);
      }
    }
  }
}

const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, intersectionRatio, intersectionRect, rootBounds } of entries) {
      // A card taller than the screen never is half visible: half a screen of it is as good.
      const tall = rootBounds && intersectionRect.height >= rootBounds.height / 2;
      if (intersectionRatio >= 0.5 || tall) appear(target);
      else vanish(target);
    }
  },
  { threshold: [0, 0.25, 0.5, 0.75] },
);

function appear(card) {
  if (timers.has(card) || document.hidden) return;
  const found = [];
  if (card.dataset.position !== undefined && card.dataset.served && !card.dataset.shown) {
    found.push(setTimeout(() => ((card.dataset.shown = "1"), queueImpression(card)), IMPRESSION_MS));
  }
  if (!card.dataset.dwelled) {
    const dwell = () => ((card.dataset.dwelled = "1"), queueEngagement(card, "long_dwell", { dwell_ms: DWELL_MS }));
    found.push(setTimeout(dwell, DWELL_MS));
  }
  timers.set(card, found);
}

function vanish(card) {
  timers.get(card)?.forEach(clearTimeout);
  timers.delete(card);
}

function watch(card) {
  if (me && !("own" in card.dataset)) sight.observe(card);
}

function unwatch(card) {
  sight.unobserve(card);
  vanish(card);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    [...timers.keys()].forEach(vanish);
    flush({ leaving: true });
  } else {
    for (const card of all("[data-post]:not(.gone)")) (sight.unobserve(card), watch(card));
  }
});
addEventListener("pagehide", () => {
  for (const card of [...hiding.keys()]) commitHide(card, true);
  flush({ leaving: true });
});

// ---------------------------------------------------------------- keys

function step(by) {
  const cards = all("article.card:not(.gone, [hidden])");
  if (!cards.length) return;
  const here = cards.indexOf(cardOf(document.activeElement) ?? $(".current"));
  goTo(cards[Math.min(Math.max(here + by, 0), cards.length - 1)]);
}

function goTo(card) {
  $(".current")?.classList.remove("current");
  card.classList.add("current");
  card.focus({ preventScroll: true });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  card.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

const onCard = (selector) => () => {
  const card = cardOf(document.activeElement) ?? $(".current") ?? $("article.card.whole");
  if (card) $(selector, card)?.click();
};
const keys = {
  j: () => step(1),
  k: () => step(-1),
  l: onCard('[data-do="like"]'),
  c: () => ($("#comment-text") ? $("#comment-text").focus() : onCard('[data-do="comment"]')()),
  o: onCard("h2 a"),
  w: onCard('[data-do="why"]'),
  x: onCard('[data-do="hide"]'),
  m: onCard(".menu summary"),
  n: () => ($("#compose-text") ? actions.compose() : me && location.assign("/compose")),
  "/": () => ($(".find input")?.checkVisibility() ? $(".find input").focus() : location.assign("/search")),
  ".": () => $("[data-newer]:not([hidden]) button")?.click(),
  "?": actions.help,
};

document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && $(".menu[open]");
  if (menu) return closeMenus();
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  const busy = event.target.closest("dialog") || $("dialog[open]");
  if (typing || busy || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
document.addEventListener("focusin", (event) => {
  closeMenus(event.target);
  const current = $(".current");
  if (current && !current.contains(event.target)) current.classList.remove("current");
});

// ---------------------------------------------------------------- forms

for (const form of all("[data-compose]")) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    const button = $('button[type="submit"]', form);
    setTimeout(() => (button.disabled = true)); // after the browser has read the form
  });
}
// What is pressed twice would meet its own change as somebody else's.
for (const form of all("[data-once]")) {
  form.addEventListener("submit", () => setTimeout(() => all("button", form).forEach((button) => (button.disabled = true))));
}
addEventListener("pageshow", () => all("[data-compose] button, [data-once] button").forEach((button) => (button.disabled = false)));

// A half-written text outlives a lost session, for its own writer: whoever signs in next in this
// tab must not read it. It is dropped once the server has taken it.
for (const { dataset: { posted } } of all("[data-posted]")) {
  for (const name of Object.keys(sessionStorage)) {
    if (name === `draft:${me}:${posted}` || name.startsWith(`draft:${me}:${posted}/`)) sessionStorage.removeItem(name);
  }
}
for (const field of all("[data-draft]")) {
  const name = `draft:${me}:${field.dataset.draft}`;
  if (!field.value) field.value = sessionStorage.getItem(name) ?? "";
  field.addEventListener("input", () => sessionStorage.setItem(name, field.value));
}

for (const field of all("[data-filter]")) {
  const list = document.getElementById(field.dataset.filter);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const line of list.children) {
      const fits = words.every((word) => line.dataset.words.includes(word));
      line.hidden = words.length ? !fits : "rest" in line.dataset;
      left += line.hidden ? 0 : 1;
    }
    $("[data-none]").hidden = left > 0;
  });
}

// ---------------------------------------------------------------- begin

// The page of an error does not know its reader, so it comes without the theme that they chose.
document.documentElement.dataset.theme ||= document.cookie.match(/millrace_theme=(light|dark)/)?.[1] ?? "";
const offline = () => ($("[data-offline]").hidden = navigator.onLine);
addEventListener("offline", offline);
addEventListener("online", () => (offline(), flush()));
offline();
all("[data-post]").forEach(watch);
all("[data-more]").forEach((place) => nearEnd.observe(place));
all("[data-refresh]").forEach((place) => setInterval(() => refreshFigures(place), FIGURES_MS));
all("[data-later]").forEach(later);
if ($("[data-newer]")) listen(`since=${encodeURIComponent(body.dataset.now)}`, "newer", hear);
all("[data-thread]").forEach(followThread);

const wrong = $("form[data-open]");
if (wrong) ($("[aria-invalid]", wrong) ?? $("textarea", wrong)).focus();
