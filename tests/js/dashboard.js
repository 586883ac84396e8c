/** Documents of the dashboard, as a server sends them, for the tests of its page. */

/** @typedef {import("../../static/dashboard/contract.js").Figures} Figures */
/** @typedef {import("../../static/dashboard/contract.js").Line} Line */
/** @typedef {import("../../static/dashboard/contract.js").Story} Story */

const LEVERS = ["trimming", "exact", "semantic", "join", "routing", "cap", "batch", "service_tier", "prefix"];
const WASTE = ["lost", "revised", "repair", "failed", "cancelled", "evidence"];

/**
 * A bill: what is not named is nothing.
 * @param {string} baseline
 * @param {string} cost
 * @param {Record<string, string>} savings
 * @param {Record<string, string>} waste
 */
export function bill(baseline, cost, savings, waste) {
  return {
    baseline_usd: baseline,
    cost_usd: cost,
    unknown: 0,
    savings: LEVERS.map((lever) => {
      const saved = savings[lever] ?? "0";
      return { lever, requests: Number(saved) ? 3 : 0, saved_usd: saved, saved_ms: lever === "exact" ? 812.4 : null, estimated: lever === "cap" };
    }),
    waste: WASTE.map((kind) => ({ kind, requests: waste[kind] ? 1 : 0, cost_usd: waste[kind] ?? "0" })),
  };
}

/**
 * @param {Partial<Line>} fields
 * @returns {Line}
 */
export function line(fields = {}) {
  return {
    id: "resp_1",
    tenant: "acme",
    opened_at: 1764418800,
    status: "completed",
    code: null,
    source: "small",
    cache: "miss",
    model: "gpt-small",
    strategy: "auto",
    tag: "shop",
    user: "",
    reason: "small first",
    failed_check: null,
    escalated: false,
    input_tokens: 20,
    output_tokens: 40,
    cost_usd: "0.00001",
    saved_usd: "0.0002",
    ttft_ms: 210.3,
    latency_ms: 900.1,
    ...fields,
  };
}

const SPREAD = { count: 179, p50: 210.3, p95: 500, p99: 900 };

/** @returns {Figures} Two hours, the second without a request. */
export function figures() {
  return {
    now: 1764424000,
    since: 1764417600,
    until: 1764424800,
    step: "hour",
    step_s: 3600,
    tenant: "acme",
    model: null,
    tag: null,
    rollup: { behind: 0, of: 179 },
    total: {
      requests: 179,
      per_second: 0.0279,
      answered: 177,
      status: { completed: 175, incomplete: 2, cancelled: 1, failed: 1, killed: 0 },
      errors: [{ code: "upstream_error", requests: 1 }],
      incomplete: [{ code: "max_output_tokens", requests: 2 }],
      ttft_ms: SPREAD,
      total_ms: SPREAD,
      by_source: [
        { source: "cache", requests: 100, cost_usd: "0", ttft_ms: SPREAD, total_ms: SPREAD },
        { source: "small", requests: 60, cost_usd: "0.002", ttft_ms: SPREAD, total_ms: SPREAD },
        { source: "large", requests: 17, cost_usd: "0.01", ttft_ms: SPREAD, total_ms: SPREAD },
        { source: "none", requests: 2, cost_usd: "0.0003", ttft_ms: { ...SPREAD, p50: null }, total_ms: SPREAD },
      ],
      cost_usd: "0.0123",
      would_have_cost_usd: "0.0423",
      saved_usd: "0.03",
      saved_share: 0.7092,
      cost_per_request_usd: "0.0000687",
      cost_per_day_usd: "0.1661",
      request_cost_usd: { count: 179, p50: "0.00005", p95: "0.0002", p99: "0.0004" },
      tokens: { input: 1000, output: 4000 },
      waterfall: bill("0.0423", "0.0123", { exact: "0.02", routing: "0.013", prefix: "-0.001" }, { lost: "0.002" }),
      cache: { asked: 170, exact: 60, semantic: 30, joined: 10, hit_rate: 0.5882, exact_rate: 0.3529, semantic_rate: 0.1765, joined_rate: 0.0588 },
      split: { small: 60, large: 17, large_share: 0.2208, small_first: 67, large_first: 10, large_first_share: 0.13 },
      escalations: { count: 7, share: 0.1045, reasons: [{ reason: "unsure", requests: 4 }, { reason: "upstream_timeout", requests: 3 }] },
      checks: [{ check: "unsure", failed: 4 }],
      checked: 67,
      races: { races: 3, hedges: 2, won_by_small: 4, won_by_large: 1, lost_calls: 5, waste_usd: "0.002" },
      strategies: [{ strategy: "auto", requests: 179 }],
    },
    series: {
      at: [1764417600, 1764421200],
      requests: [179, 0],
      per_second: [0.0497, 0],
      errors: [1, 0],
      in_cache: [100, 0],
      by_small: [60, 0],
      by_large: [17, 0],
      hit_rate: [0.5882, null],
      escalated: [7, 0],
      ttft_p50_ms: [210.3, null],
      ttft_p95_ms: [500, null],
      ttft_p99_ms: [900, null],
      total_p50_ms: [210.3, null],
      total_p95_ms: [500, null],
      total_p99_ms: [900, null],
      cost_usd: ["0.0123", "0"],
      would_have_cost_usd: ["0.0423", "0"],
      saved_usd: ["0.03", "0"],
      cost_per_request_usd: ["0.0000687", null],
      slowest_id: ["resp_slow", null],
      dearest_id: ["resp_dear", null],
      failed_id: [null, null],
    },
    days: [
      { day: "2026-11-28", requests: 100, cost_usd: "0.01", would_have_cost_usd: "0.04", saved_usd: "0.03" },
      { day: "2026-11-29", requests: 79, cost_usd: "0.0023", would_have_cost_usd: "0.0023", saved_usd: "0" },
    ],
    models: [],
    tags: [],
    tenants: [],
  };
}

/**
 * An escalated request: the small model's draft was taken back.
 * @returns {Story}
 */
export function story() {
  const call = { deployment: "", input_tokens: 20, cached_input_tokens: 0, output_tokens: 40, estimated: false };
  return {
    line: line({ source: "large", model: "gpt-large", escalated: true, failed_check: "unsure", latency_ms: 2000, saved_usd: "-0.0001" }),
    stages: [
      { stage: "exact", state: "missed", at_ms: 0, took_ms: null, cost_usd: "0", says: "nobody has asked this before" },
      { stage: "small", state: "revised", at_ms: 0, took_ms: 500, cost_usd: "0.00001", says: "gpt-small: 20 tokens in, 40 out" },
      { stage: "large", state: "answered", at_ms: 500, took_ms: 1500, cost_usd: "0.001", says: "gpt-large" },
    ],
    facts: [{ name: "asked", value: "for auto" }],
    waterfall: bill("0.001", "0.00101", {}, { revised: "0.00001" }),
    entry: {
      ended_at: 1764418802,
      calls: [
        { ...call, model: "gpt-small", tier: "small", outcome: "revised", started_ms: 0, ttft_ms: 100, lasted_ms: 500, cost_usd: "0.00001" },
        { ...call, model: "gpt-large", tier: "large", outcome: "answered", started_ms: 500, ttft_ms: null, lasted_ms: 1500, cost_usd: "0.001" },
      ],
      story: {
        near: [{ entry_id: "e_1", cosine: 0.9312, probability: 0.41, scope_off: false }],
        hit: "",
        missed: "not sure enough",
        scores: { tier: "small", score: -0.12, threshold: 0.3, labels: 812, reason: "small first" },
        verdicts: [{ tier: "small", check: "unsure", reason: "" }],
        failed: [],
      },
    },
  };
}
