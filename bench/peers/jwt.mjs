// The token that the peers on JavaScript verify, each in the same way.
import { createHmac, timingSafeEqual } from 'node:crypto'

/** The claims of an HS256 token, or null. */
export function verify(token, secret) {
  try {
    const [head, body, signature] = token.split('.')
    if (!signature || JSON.parse(Buffer.from(head, 'base64url')).alg !== 'HS256') return null
    const right = createHmac('sha256', secret).update(`${head}.${body}`).digest()
    const given = Buffer.from(signature, 'base64url')
    if (given.length !== right.length || !timingSafeEqual(given, right)) return null
    const claims = JSON.parse(Buffer.from(body, 'base64url'))
    return claims.sub && claims.exp * 1000 > Date.now() ? claims : null
  } catch {
    return null
  }
}
