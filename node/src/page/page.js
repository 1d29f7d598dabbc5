// The live table: receives the state every second and changes only what differs.
'use strict';

const $ = (id) => document.getElementById(id);
const number = (n) => n.toLocaleString('en');
const plural = (n, one) => `${number(n)} ${one}${n === 1 ? '' : 's'}`;

function text(element, value) {
  if (element.textContent !== String(value)) element.textContent = value;
}

function make(tag, className, parent) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

/** Gives `parent` one child of `tag` for each of `items`, keeping those it has. */
function children(parent, tag, items, show) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, n) => show(parent.children[n] ?? make(tag, '', parent), item, n));
}

/** A table of `rows`; a column is [name, value of a row, class of the cell]. */
function table(element, columns, rows) {
  if (!element.tHead) {
    const head = make('tr', '', make('thead', '', element));
    columns.forEach(([name, , kind]) => {
      const th = make('th', typeof kind === 'string' ? kind : '', head);
      th.scope = 'col';
      text(th, name);
    });
    make('tbody', '', element);
  }
  children(element.tBodies[0], 'tr', rows, (tr, row) =>
    children(tr, 'td', columns, (td, [name, value, kind]) => {
      td.dataset.name = name;
      text(td, value(row) ?? '');
      const className = (typeof kind === 'function' ? kind(row) : kind) ?? '';
      if (td.className !== className) td.className = className;
    }));
}

let owners = new Map();
const ownerClass = (name) => (owners.has(name) ? `o${owners.get(name) % 8}` : '');
const stateClass = (state) =>
  ({ 'running': 'good', 'caught-up': 'good', 'waiting': 'warn', 'replaying': 'warn', 'preparing': 'warn', 'paused': 'warn', 'moving': 'warn' })[state] ?? 'bad';
/** Returns the state as `[text, class]`; set-aside events were passed but not handled. */
function stateOf({ state, display_state: shown, set_aside: aside }) {
  return shown === state ? [state, stateClass(state)] : [shown, aside.dead > 0 ? 'bad' : 'warn'];
}
const lag = (s) =>
  s.lag_events === 0 ? 'none' : `${number(s.lag_events)} · ${s.lag_seconds < 10 ? s.lag_seconds.toFixed(1) : number(Math.round(s.lag_seconds))} s`;
const at = (time) => (time ? new Date(time).toLocaleTimeString() : '');
const isDue = (time) => new Date(time) <= Date.now();
const due = (time) => (time && isDue(time) ? 'due now' : at(time));
/** A reason without the position in it, which the token shows. */
const reasonOf = (s) => s.reason.replace(`the event at ${s.waits_with} `, 'the event at its token ');
/** Shows a reason that several segments share at the first of them; the others refer to that. */
function foldReasons(segments) {
  const first = new Map();
  return segments.map((s) => {
    if (!s.reason) return s;
    const reason = reasonOf(s);
    if (first.has(reason)) return { ...s, reason: `as segment ${first.get(reason)}` };
    first.set(reason, s.id);
    return s;
  });
}

const NODES = [
  ['node', (m) => m.name, (m) => `owner ${ownerClass(m.name)}`],
  ['state', (m) => (m.alive ? 'alive' : 'down'), (m) => (m.alive ? 'good' : 'bad')],
  ['role', (m) => (m.why ? `${m.role}: ${m.why}` : m.role), (m) => (m.why ? 'line' : '')],
  ['segments', (m) => m.segments, 'n'],
  ['applied', (m) => (m.applied == null ? '' : number(m.applied)), 'n'],
  ['clients', (m) => m.http, 'line'],
  ['peers', (m) => m.peer, 'line'],
];
const SEGMENTS = [
  ['segment', (s) => s.id, 'n'],
  ['owner', (s) => s.owner ?? 'none', (s) => `owner ${ownerClass(s.owner)}`],
  ['epoch', (s) => s.epoch, 'n'],
  ['token', (s) => number(s.token), 'n'],
  ['lag', lag, 'n'],
  ['state', (s) => stateOf(s)[0], (s) => stateOf(s)[1]],
  ['why', (s) => [s.reason, s.attempt && `attempt ${s.attempt}`, s.retry_at && (isDue(s.retry_at) ? 'retry due now' : `retry at ${at(s.retry_at)}`)]
    .filter(Boolean).join(' · '), 'wide cause'],
];
const LETTERS = [
  ['sequence', (d) => d.unnamed ?? d.sequence, 'name'],
  ['state', (d) => d.state, (d) => stateClass(d.state)],
  ['events', (d) => number(d.letters.length), 'n'],
  ['position', (d) => number(d.letters[0].position), 'n'],
  ['attempts', (d) => d.letters[0].attempts, 'n'],
  ['retry', (d) => due(d.retry_at)],
  ['lent to', (d) => d.lent_to],
  ['cause', (d) => d.cause, 'wide cause'],
];
const OPERATIONS = [
  ['when', (o) => new Date(o.recorded).toLocaleString()],
  ['verb', (o) => o.kind, 'name'],
  ['subject', (o) => subjectOf(o.subject)],
  ['outcome', (o) => outcomeOf(o), (o) => ({ waiting: 'warn', refused: 'bad' })[o.state] ?? 'good'],
  ['reason', (o) => [o.reason, o.why].filter(Boolean).join(' · '), 'wide cause'],
];
/** Returns the changed part of a processor; its name is shown already. */
const subjectOf = (s) => [s.segment != null && `segment ${s.segment}`, s.position != null && `event ${s.position}`,
  s.sequence != null && `sequence '${s.sequence}'`, s.node && `for ${s.node}`].filter(Boolean).join(' ');
const outcomeOf = (o) => (o.state === 'done' && o.changed === 0 ? 'no change' : o.state);

function details(parent, label) {
  const element = make('details', '', parent);
  make('summary', '', element);
  make('table', '', element).setAttribute('aria-label', label);
  return element;
}

/** Shows a replay that has not ended. */
function showReplay(parent, replay) {
  parent.hidden = !replay || replay.phase === 'ended';
  if (parent.hidden) return;
  const [bar, words] = parent.children;
  const { phase, from, until, position, events_per_second: rate, eta_seconds: left } = replay;
  bar.max = Math.max(1, until - from);
  bar.value = position - from;
  bar.setAttribute('aria-label', 'replayed positions');
  const parts = { preparing: ['preparing the replay: its hook is running'], ending: ['replayed; its hook is running'] }[phase] ??
    [`replayed ${number(position)} of ${number(until)}`, rate && `${number(Math.round(rate))} events/s`,
      left && `about ${number(Math.ceil(left))} s left`];
  text(words, ` ${parts.filter(Boolean).join(' · ')}`);
}

function showProcessor(article, processor, letters, history) {
  if (!article.firstChild) {
    make('h3', '', article).append(make('span'), make('small'), make('small'));
    make('p', 'note', article).append(make('progress'), make('span'));
    make('ol', 'map', article).setAttribute('aria-label', 'segments by owner');
    const segments = details(article, 'segments');
    segments.open = true;
    const aside = details(article, 'set-aside sequences');
    aside.open = true;
    make('p', 'note', aside);
    details(article, 'last operations');
  }
  const [title, replay, map, segments, aside, operations] = article.children;
  const [name, state, skipped] = title.children;
  text(name, processor.name);
  const [word, kind] = stateOf(processor);
  text(state, word);
  state.className = kind;
  text(skipped, processor.skipped ? `${plural(processor.skipped, 'event')} skipped` : '');
  showReplay(replay, processor.replay);
  children(map, 'li', processor.segments, (li, s) => {
    const waits = s.state === 'stalled' || s.state === 'flooded' || s.attempt != null;
    const className = `${s.owner ? ownerClass(s.owner) : 'nobody'}${waits ? ' waits' : ''}`;
    if (li.className !== className) li.className = className;
    text(li, s.id);
    li.title = `segment ${s.id}: ${s.owner ?? 'no owner'}, ${stateOf(s)[0]}, lag ${lag(s)}`;
  });
  const behind = processor.segments.reduce((sum, s) => sum + s.lag_events, 0);
  text(segments.firstChild, `${plural(processor.segments.length, 'segment')}, lag: ${behind ? plural(behind, 'event') : 'none'}`);
  table(segments.children[1], SEGMENTS, foldReasons(processor.segments));
  const { sequences, letters: waiting, dead } = processor.set_aside;
  aside.hidden = sequences === 0;
  text(aside.firstChild, `set aside: ${plural(sequences, 'sequence')}, ${plural(waiting, 'event')}` +
    (dead ? ` (${number(dead)} dead: they need an operator)` : ''));
  const shown = letters ?? [];
  table(aside.children[1], LETTERS, shown);
  aside.lastChild.hidden = shown.length >= sequences;
  text(aside.lastChild, `and ${number(sequences - shown.length)} more: evener dead-letter list ${processor.name}`);
  operations.hidden = !history;
  text(operations.firstChild, 'last operations');
  table(operations.children[1], OPERATIONS, history ?? []);
}

let last;
function show(live) {
  const { status, cluster, processors, dead_letters: letters, history } = live;
  owners = new Map(cluster.members.map((member, n) => [member.name, n]));
  const now = performance.now();
  if (last) text($('rate'), number(Math.max(0, Math.round((status.head - last.head) * 1000 / (now - last.now)))));
  last = { head: status.head, now };
  text($('head'), number(status.head));
  text($('leader'), cluster.leader ?? 'none');
  $('leader').className = cluster.leader ? '' : 'bad';
  text($('node'), status.node);
  text($('cluster'), cluster.cluster);
  text($('version'), `evener ${status.version}`);
  $('lost').hidden = !cluster.trouble;
  text($('lost'), cluster.trouble ? `Nothing can be written: ${cluster.trouble}` : '');
  table($('nodes'), NODES, cluster.members);
  $('none').hidden = processors.length > 0;
  document.querySelectorAll('section').forEach((section) => { section.hidden = false; });
  children($('processors'), 'article', processors, (article, p) =>
    showProcessor(article, p, letters[p.name], history?.[p.name]));
}

/** Shows the state of the connection; `trouble` is why the values below are not current. */
function showConnection(word, className, trouble) {
  text($('live'), word);
  $('live').className = className;
  $('trouble').hidden = !trouble;
  text($('trouble'), trouble);
}

if ($('first').textContent) {
  show(JSON.parse($('first').textContent));
  showConnection('connecting', '', '');
}
const source = new EventSource('/page/live');
source.onmessage = (message) => {
  const live = JSON.parse(message.data);
  show(live);
  if (live.cluster.trouble) showConnection('no leader', 'off', '');
  else showConnection('live', 'on', '');
};
source.addEventListener('trouble', (message) => showConnection('not ready', 'off', message.data));
source.onerror = () => showConnection('no connection', 'off',
  `${location.host} does not answer; retrying. The values below, if any, are the last ones received.`);
