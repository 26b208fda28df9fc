// Types of what Python and Gradio hand to the modules; names of fields are Python's.

/** Constants of the whole site: app/web/assets.py. The first four are also in exported pages. */
interface Site {
  numBins: number;
  differenceBins: number;
  axes: DeclaredAxis[];
  schedules: Record<string, string>;
  broken: { kl: number; others: number };
  isShared?: boolean;
  maxUploadBytes?: number;
  plotly?: string;
  suffixes?: string[];
}

/** Gradio's handle on the handlers of a tab, by their names. */
type Server = Record<string, (request: object) => Promise<any>>;

/** A call to Python: app/web/calls.py. What Python refuses rejects with a Refusal. */
type Api = (name: string, request: object) => Promise<any>;

interface Refusal extends Error { refused?: boolean }

type AxisField = "keep_fraction" | "channel_keep_ratio" | "bit_width";

/** By the axes' fields: sol_core/actions/action.py. Lists: a number per layer, of which theirs is the mean. */
type Action = Record<AxisField, number> & { keep_by_layer?: number[]; channels_by_layer?: number[] };

/** The fields of StepCost (sol_core/events.py) that pages read. */
type Cost = Record<"flops" | "bytes_read" | "attention_bytes" | "mlp_bytes" | "head_bytes" | "policy_bytes", number>;

interface Alternative { token_id: number; text: string; probability: number }

/** One token: TokenEvent of sol_core/events.py, a number that is not finite as null. */
interface Token extends
  Record<"index" | "token_id" | "step_ms" | "elapsed_ms" | "cached_tokens", number>,
  Record<"surprisal" | "entropy" | "kl_to_dense", number | null>,
  Record<"cost" | "dense_cost", Cost> {
  text: string;
  action: Action;
  top: Alternative[];
  /** choice: missing in runs of before it was kept. */
  side: { name: string; surprisal: number | null; kl_to_dense?: number | null; choice?: Alternative | null }[];
  /** Missing in runs of before they were kept. */
  policy?: number[][] | null;
  parts_ms?: Record<string, number> | null;
  /** Which pages the step read, layer by layer: PageReads of sol_core/events.py. */
  page_reads?: { pages: number; cells: number; levels: string; share: number; by_page?: string } | null;
  /** Of inspected texts only: its kind, NLL of the dense row, NLL of the static row less its own. */
  kind?: string;
  dense_surprisal?: number;
  below_static?: number | null;
}

interface Run extends
  Record<"id" | "kind" | "prompt" | "title" | "question" | "model" | "created_at", string>,
  Record<"config" | "settings", any> {}

/** The state of a run: app/runs/views.py. `run` comes with the first poll. */
interface View {
  status: string;
  live: boolean;
  stopping: boolean;
  place: number | null;
  ahead: "lesson" | "own" | "other" | null;
  /** How far the prompt is read, while it is. */
  reading?: { tokens_read: number; prompt_tokens: number; seconds_left: number } | null;
  rows: Token[];
  cursor: number;
  more: boolean;
  /** The engine's first and last event, but for the texts in them: sol_core/events.py. */
  prefill: any;
  summary: any;
  error: string | null;
  warning: string | null;
  run?: Run;
  /** Texts of the prompt's pages, with the first rows. */
  pages?: string[];
  /** What the page found out after the run, of an exported one: SeenRun in app/sharing/run_document.py. */
  seen?: any;
}

/** The loading of the model: app/model/compute.py. */
interface Model extends Record<"name" | "message", string> {
  state: "loading" | "ready" | "failed";
  fraction: number;
  facts: any;
}

/** One of a token's numbers as a lane or a colour. */
interface Axis extends
  Partial<Record<"low" | "high" | "bins", number>>, Partial<Record<"isOpen" | "isOpenBelow", boolean>> {
  key: string;
  name: string;
  of(row: Token): number | null;
  show(value: number): string;
  attribute?: string;
}

/** One number of an action: a row of sol_core/actions/action.py, by its names there; levels: its field in a grid; min,
 *  max, step: of its sliders, in the numbers that people read. */
interface DeclaredAxis extends
  Record<"field", AxisField>,
  Record<"levels" | "short" | "key" | "name" | "title" | "noun" | "term" | "label" | "hint" | "unit", string>,
  Record<"scale" | "dense" | "min" | "max" | "step", number> {}

interface SpendAxis extends DeclaredAxis, Axis {
  of(row: Token): number;
  fraction(value: number): number;
}

interface GridAxis { axis: SpendAxis; levels: number[] }

/** From handlers.estimate_budget; the optional fields for bytes alone. */
interface Estimate extends
  Record<"context" | "share", number>,
  Partial<Record<"lowest" | "usual", number>>,
  Partial<Record<"measured_on" | "zone", string>> {
  mix: Record<string, number>;
  /** The shares from which on few things change, and none. */
  zones?: number[];
  /** In words, "" where it is not known. */
  speed?: string;
  /** Of the full model's speed. */
  times?: number | null;
}

/** Pages, share read and by page: RecordedStep of tests/app/recordings/recorder.py. */
type RecordedStep = [number, number, string];

interface RecordedAnswer { same: number; tokens: string[]; costs: number[]; steps: RecordedStep[] }

interface RecordedText { asked: number; spend: number[]; share: number; answers: RecordedAnswer[] }

interface RecordedQuestion { needs: string; question: string; stem: string; tokens: number; fact: number }

/** Questions about one story, answered under smaller and smaller budgets: app/results. */
interface Recording extends
  Record<"model" | "dtype" | "machine" | "story", string>,
  Record<"stop_strings" | "pages", string[]>,
  Record<"max_new_tokens" | "page_size", number> {
  questions: RecordedQuestion[];
  texts: RecordedText[];
}

/** Words and limits of a form's field. */
interface FieldWords extends
  Partial<Record<"hint" | "unit" | "axis" | "value", string>>,
  Partial<Record<"rows" | "min" | "max" | "maxLength", number>> {
  label: string;
  step?: number | "any";
  choices?: Record<string, string>;
  isRequired?: boolean;
}

/** Effects of all pages on a token. lost: of its probability without the page; best: where that is most. */
interface Effects { index: number; lost: number[]; attention: number[]; best: number | null; said?: string }

interface Field {
  element: HTMLElement;
  get(): any;
  set(value: any): void;
  input?: any;
  update?(): void;
  /** Of a number's field: its limits in words while its box holds a wrong number, else null. */
  problem?(): string | null;
  /** Says them under the box, if it holds a wrong number; whether it does. */
  check?(isEntered: boolean): boolean;
  /** Of the budget's dial: whether it stands where the prompt puts it. */
  isUsual?(): boolean | null;
  box?: HTMLInputElement;
}

/** Of a chart of a training. sign: 1 where values are above nothing, −1 below it, 0: both, null: anything. */
interface Scale { title: string; sign: number | null; least?: number; zeroline?: boolean }

/** id: of a metric. */
interface MetricLine extends Record<"id" | "name" | "words" | "colour", string> {
  dash?: string;
  scale?: number;
  isSecond?: boolean;
  /** Between two measurements. */
  isHeld?: boolean;
}

interface Window {
  Plotly?: any;
  /** Set by the frame of a Space on ZeroGPU. */
  supports_zerogpu_headers?: string;
}

/** Marks that modules keep on elements of their own. */
interface Element {
  solIndex?: number;
  solGap?: HTMLElement;
  solShade?: number;
  solAttribute?: string;
}
