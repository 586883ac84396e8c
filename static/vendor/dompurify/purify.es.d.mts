/** Types of what the page uses of DOMPurify; its own need a package that the page does not have. */
export interface Config {
  ALLOWED_TAGS: string[];
  ALLOWED_ATTR: string[];
  ADD_URI_SAFE_ATTR: string[];
  ALLOWED_URI_REGEXP: RegExp;
  ALLOW_DATA_ATTR: boolean;
  ALLOW_ARIA_ATTR: boolean;
  RETURN_DOM_FRAGMENT: true;
}
declare const DOMPurify: { isSupported: boolean; sanitize(html: string, config: Config): DocumentFragment };
export default DOMPurify;
