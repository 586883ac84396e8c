/** What the tests use of Node, declared here so that TypeScript is the one thing to install. */

declare module "node:test" {
  interface TestContext {
    mock: { timers: { enable(options: { apis: string[] }): void; tick(ms: number): void; reset(): void } };
  }
  export default function test(name: string, body: (context: TestContext) => void | Promise<void>): void;
}

declare module "node:assert/strict" {
  const assert: {
    equal(actual: unknown, expected: unknown, message?: string): void;
    deepEqual(actual: unknown, expected: unknown, message?: string): void;
    ok(value: unknown, message?: string): asserts value;
    match(text: string, pattern: RegExp, message?: string): void;
    doesNotMatch(text: string, pattern: RegExp, message?: string): void;
    rejects(promise: Promise<unknown>, expected: object): Promise<void>;
  };
  export default assert;
}

declare module "node:fs" {
  export function readFileSync(path: URL, encoding: "utf8"): string;
  export function readdirSync(path: URL): string[];
}

interface ImportMeta {
  url: string;
}
