// Characters that XML does not have: what we say ends up in documents of A-REX, and one of them makes such a
// document unreadable as a whole.

/** What must not be in an XML 1.0 document, not even escaped: control characters but tab and line ends,
 * halves of a pair of surrogates, and two that Unicode has for nothing. */
const FORBIDDEN = /[\p{Cs}\ufffe\uffff]|(?![\t\n\r])\p{Cc}/gu;

/** The text with `?` for each of them. */
export function withoutForbidden(text: string): string {
  return text.replaceAll(FORBIDDEN, '?');
}

/** The same for what JSON.stringify made: it escapes nearly all of them, keys included. Going over the one
 * text is quicker than over all the strings. */
export function jsonWithoutForbidden(json: string): string {
  if (!/\\[bfu]|[\ufffe\uffff]/.test(json)) return json;
  return json.replaceAll(/\\(?:u[0-9a-f]{4}|.)|[\ufffe\uffff]/g, (found) =>
    /^\\["\\/nrt]$/.test(found) ? found : '?',
  );
}
