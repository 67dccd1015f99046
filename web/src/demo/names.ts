/** The server's rule for user ids and room names, checked here so that the answer comes at once. */

const LONGEST = 256;
/** Control characters, line and paragraph separators, halves of surrogate pairs. */
const FORBIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/u;

/**
 * Say what is wrong with a name.
 *
 * @param what the word for it in the sentence, e.g. "A name"
 * @returns null when the server will take it
 */
export function nameProblem(what: string, name: string): string | null {
  if (name === "") return `${what} needs at least one character.`;
  const control = FORBIDDEN.exec(name);
  if (control !== null) {
    const code = (control[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
    return `${what} cannot contain control characters; this one has U+${code}.`;
  }
  const bytes = new TextEncoder().encode(name).length;
  if (bytes > LONGEST) return `${what} can have at most ${LONGEST} bytes of UTF-8; this one has ${bytes}.`;
  return null;
}
