/** Types of what the page uses of markdown-it; its own need packages that the page does not have. */
export interface Token {
  tag: string;
  nesting: -1 | 0 | 1;
  hidden: boolean;
  attrs: [string, string][] | null;
  attrGet(name: string): string | null;
  attrSet(name: string, value: string): void;
}
export default class MarkdownIt {
  constructor(options: { html: boolean; linkify: boolean; breaks: boolean });
  options: object;
  linkify: { set(options: { fuzzyLink: boolean; fuzzyEmail: boolean; fuzzyIP: boolean }): void };
  renderer: { render(tokens: Token[], options: object, env: object): string };
  disable(rules: string[]): this;
  parse(text: string, env: object): Token[];
}
