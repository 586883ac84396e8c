// @ts-check
/**
 * The documents that the page reads. Times are Unix seconds, lengths of time milliseconds, dollars exact decimals as
 * strings; what is not known is null.
 *
 * @typedef {object} Spread Percentiles of milliseconds.
 * @property {number} count
 * @property {number | null} p50
 * @property {number | null} p95
 * @property {number | null} p99
 *
 * @typedef {{lever: string, requests: number, saved_usd: string, saved_ms: number | null, estimated: boolean}} Saving
 *   `saved_ms` is of all these requests together.
 * @typedef {{kind: string, requests: number, cost_usd: string}} Waste
 *
 * @typedef {object} Bill `baseline - savings + waste = cost`, exactly.
 * @property {string} baseline_usd
 * @property {string} cost_usd
 * @property {number} unknown Requests that nothing is known to be compared with.
 * @property {Saving[]} savings All levers, in the order of the funnel. A cap is not in the sum.
 * @property {Waste[]} waste
 *
 * @typedef {{source: string, requests: number, cost_usd: string, ttft_ms: Spread, total_ms: Spread}} BySource
 *
 * @typedef {object} Sums
 * @property {number} requests
 * @property {number | null} per_second
 * @property {number} answered
 * @property {Record<string, number>} status
 * @property {{code: string, requests: number}[]} errors
 * @property {{code: string, requests: number}[]} incomplete
 * @property {Spread} ttft_ms
 * @property {Spread} total_ms
 * @property {BySource[]} by_source
 * @property {string} cost_usd
 * @property {string} would_have_cost_usd
 * @property {string} saved_usd
 * @property {number | null} saved_share
 * @property {string | null} cost_per_request_usd
 * @property {string | null} cost_per_day_usd
 * @property {{count: number, p50: string | null, p95: string | null, p99: string | null}} request_cost_usd
 * @property {Record<string, number>} tokens
 * @property {Bill} waterfall
 * @property {{asked: number, exact: number, semantic: number, joined: number, hit_rate: number | null,
 *   exact_rate: number | null, semantic_rate: number | null, joined_rate: number | null}} cache
 * @property {{small: number, large: number, large_share: number | null, small_first: number, large_first: number,
 *   large_first_share: number | null}} split
 * @property {{count: number, share: number | null, reasons: {reason: string, requests: number}[]}} escalations
 * @property {{check: string, failed: number}[]} checks
 * @property {number} checked
 * @property {{races: number, hedges: number, won_by_small: number, won_by_large: number, lost_calls: number,
 *   waste_usd: string}} races
 * @property {{strategy: string, requests: number}[]} strategies
 *
 * @typedef {(number | null)[]} Numbers
 * @typedef {(string | null)[]} Texts
 * @typedef {object} Series One item for each step.
 * @property {number[]} at
 * @property {number[]} requests
 * @property {Numbers} per_second
 * @property {number[]} errors
 * @property {number[]} in_cache
 * @property {number[]} by_small
 * @property {number[]} by_large
 * @property {Numbers} hit_rate
 * @property {number[]} escalated
 * @property {Numbers} ttft_p50_ms
 * @property {Numbers} ttft_p95_ms
 * @property {Numbers} ttft_p99_ms
 * @property {Numbers} total_p50_ms
 * @property {Numbers} total_p95_ms
 * @property {Numbers} total_p99_ms
 * @property {string[]} cost_usd
 * @property {string[]} would_have_cost_usd
 * @property {string[]} saved_usd
 * @property {Texts} cost_per_request_usd
 * @property {Texts} slowest_id
 * @property {Texts} dearest_id
 * @property {Texts} failed_id
 *
 * @typedef {{day: string, requests: number, cost_usd: string, would_have_cost_usd: string, saved_usd: string}} Day
 * @typedef {{name: string, requests: number, errors: number, cost_usd: string, saved_usd: string,
 *   ttft_p50_ms: number | null, ttft_p95_ms: number | null, total_p50_ms: number | null,
 *   total_p95_ms: number | null}} Group
 *
 * @typedef {object} Figures
 * @property {number} now
 * @property {number} since
 * @property {number} until
 * @property {string} step
 * @property {number} step_s
 * @property {string | null} tenant
 * @property {string | null} model
 * @property {string | null} tag
 * @property {{behind: number, of: number}} rollup Ended requests that are not in yet, of all.
 * @property {Sums} total
 * @property {Series} series
 * @property {Day[]} days
 * @property {Group[]} models
 * @property {Group[]} tags
 * @property {Group[]} tenants
 *
 * @typedef {{label: string, running: number, breaker: string, why: string | null, status: string,
 *   failing_since: number | null, last_cause: string | null, failures_last_5_minutes: number}} Deployment
 * @typedef {{tier: string, name: string, model: string, status: string, can_be_asked: boolean,
 *   failing_since: number | null, last_cause: string | null, failures_last_5_minutes: number,
 *   ttft_p50_ms: number | null, ttft_p95_ms: number | null, deployments: Deployment[]}} ModelHealth
 * @typedef {{kind: string, tenant: string, name: string, period: string, limit_usd: string, spent_usd: string,
 *   reserved_usd: string, left_usd: string, share: number, step: string | null}} Budget
 *
 * @typedef {object} Now
 * @property {number} at
 * @property {string} version
 * @property {string} status
 * @property {number} in_flight
 * @property {number} queued_writes
 * @property {number} connections
 * @property {ModelHealth[]} models
 * @property {{made: number, won: number, refused: number, off: number, is_off: boolean}} hedges
 * @property {Budget[] | null} budgets
 *
 * @typedef {{judged: number, effective: number, estimate: number | null, lower: number | null, upper: number | null,
 *   since: number | null}} Rate Bounds of 95 % each.
 * @typedef {object} Promised
 * @property {string} kind wrong_hits, quality, large_share or spend
 * @property {string} name
 * @property {number | string} promised
 * @property {boolean} is_upper
 * @property {number | string | null} estimate
 * @property {number | string | null} [lower]
 * @property {number | string | null} [upper]
 * @property {number | null} [judged]
 * @property {number | null} [needed]
 * @property {"yes" | "no" | "unknown"} holds
 * @property {string} because
 *
 * @typedef {{check: string, catch: Rate, false_alarms: Rate, needless: Rate, off: string[]}} Check
 * @typedef {object} Promises
 * @property {number} since
 * @property {boolean} judges_now
 * @property {Promised[]} promises
 * @property {Check[]} checks
 * @property {Rate} small
 * @property {Rate} large
 * @property {Rate} near_misses
 * @property {{requests: number, cost_usd: string, today_usd: string, most_per_day_usd: string} | null} evidence_cost
 *
 * @typedef {object} Line One request.
 * @property {string} id
 * @property {string} tenant
 * @property {number} opened_at
 * @property {string} status
 * @property {string | null} code
 * @property {string | null} source
 * @property {string} cache
 * @property {string} model
 * @property {string} strategy
 * @property {string} tag
 * @property {string} user
 * @property {string} reason
 * @property {string | null} failed_check
 * @property {boolean} escalated
 * @property {number} input_tokens
 * @property {number} output_tokens
 * @property {string} cost_usd
 * @property {string} saved_usd
 * @property {number | null} ttft_ms
 * @property {number | null} latency_ms
 *
 * @typedef {{has_more: boolean, last_id: string | null, data: Line[]}} Lines
 *
 * @typedef {{stage: string, state: string, at_ms: number | null, took_ms: number | null, cost_usd: string | null,
 *   says: string}} Stage
 * @typedef {{model: string, tier: string, deployment: string, outcome: string, started_ms: number | null,
 *   ttft_ms: number | null, lasted_ms: number | null, input_tokens: number, cached_input_tokens: number,
 *   output_tokens: number, estimated: boolean, cost_usd: string}} Call
 * @typedef {{entry_id: string, cosine: number, probability: number, scope_off: boolean}} Near
 * @typedef {{tier: string, score: number, threshold: number | null, labels: number, reason: string}} Scores
 * @typedef {object} Story
 * @property {Line} line
 * @property {Stage[]} stages
 * @property {{name: string, value: string}[]} facts
 * @property {Bill} waterfall
 * @property {{calls: Call[], story: {near: Near[], hit: string, missed: string, scores: Scores | null,
 *   verdicts: {tier: string, check: string | null, reason: string}[], failed: {model: string, code: string}[]},
 *   ended_at: number | null} & Record<string, unknown>} entry
 *
 * @typedef {object} Ended What has ended in some time.
 * @property {number} requests
 * @property {number | null} per_second
 * @property {number} errors
 * @property {number} in_cache
 * @property {number} by_small
 * @property {number} by_large
 * @property {string} cost_usd
 * @property {string} saved_usd
 * @property {number | null} ttft_p50_ms
 * @property {number | null} ttft_p95_ms
 * @property {number | null} total_p50_ms
 * @property {number | null} total_p95_ms
 *
 * @typedef {object} Tick
 * @property {number} at
 * @property {Ended} ended
 * @property {Ended} minute
 * @property {Line[]} entries The latest first.
 * @property {number} left_out
 * @property {Now | null} now
 *
 * @typedef {{tenant: string, sees_all: boolean, version: string}} Hello
 */

export {};
