// The job that Stillhere does, written by hand on `ws`: authenticate by JWT, join, tell every member of every change.
// No grace windows, no versions kept across restarts, no store, no limits, no heartbeats: the least that works.
//
//   node server.mjs PORT SECRET
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const [port, secret] = process.argv.slice(2)
const TEXT = { binary: false }
const rooms = new Map() // name -> Set of sockets
const watchers = new Map() // user -> Set of sockets
let version = 0

/** The claims of an HS256 token, or null. */
function verify(token) {
  const [head, body, signature] = token.split('.')
  if (!signature || JSON.parse(Buffer.from(head, 'base64url')).alg !== 'HS256') return null
  const right = createHmac('sha256', secret).update(`${head}.${body}`).digest()
  const given = Buffer.from(signature, 'base64url')
  if (given.length !== right.length || !timingSafeEqual(given, right)) return null
  const claims = JSON.parse(Buffer.from(body, 'base64url'))
  return claims.sub && claims.exp * 1000 > Date.now() ? claims : null
}

/** One message to all of them, turned into bytes once. */
function broadcast(sockets, message, except) {
  const bytes = Buffer.from(JSON.stringify(message))
  for (const socket of sockets) if (socket !== except && socket.readyState === 1) socket.send(bytes, TEXT)
}

const say = (socket, message) => socket.send(Buffer.from(JSON.stringify(message)), TEXT)

const member = (socket) => ({
  user: socket.user,
  status: socket.status,
  epoch: '1',
  version: ++version,
  joinedAt: socket.openedAt,
  metas: [{ connectionId: socket.id, meta: {} }],
})

const presence = (socket) => ({
  user: socket.user,
  status: socket.status,
  epoch: '1',
  version: ++version,
  changedAt: Date.now(),
})

function join(socket, { id, room }) {
  let members = rooms.get(room)
  if (!members) rooms.set(room, (members = new Set()))
  members.add(socket)
  ;(socket.rooms ??= new Set()).add(room)
  say(socket, { type: 'room', id, room, members: Array.from(members, member) })
  broadcast(members, { type: 'room', room, joins: [member(socket)] }, socket)
}

function watch(socket, { id, users }) {
  for (const user of users) {
    let there = watchers.get(user)
    if (!there) watchers.set(user, (there = new Set()))
    there.add(socket)
    ;(socket.watched ??= new Set()).add(user)
  }
  say(socket, { type: 'snapshot', id, users: users.map((user) => ({ user, status: 'online' })), complete: true })
}

function state(socket, { id, availability }) {
  socket.status = availability === 'active' ? 'online' : availability
  for (const room of socket.rooms ?? []) {
    broadcast(rooms.get(room), { type: 'room', room, updates: [member(socket)] })
  }
  const there = watchers.get(socket.user)
  if (there) broadcast(there, { type: 'presence', changes: [presence(socket)] })
  say(socket, { type: 'ok', id })
}

function closed(socket) {
  for (const room of socket.rooms ?? []) {
    const members = rooms.get(room)
    members.delete(socket)
    if (members.size) broadcast(members, { type: 'room', room, leaves: [member(socket)] })
    else rooms.delete(room)
  }
  for (const user of socket.watched ?? []) watchers.get(user)?.delete(socket)
}

const handlers = { join, watch, state }

// The handlers are shared: a closure per connection would cost memory.
function onMessage(data) {
  const message = JSON.parse(data)
  handlers[message.type]?.(this, message)
}

function onClose() {
  closed(this)
}

const server = createServer((request, response) => response.writeHead(404).end())
const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'stillhere.v1' })

server.on('upgrade', (request, tcp, head) => {
  const offered = request.headers['sec-websocket-protocol']?.split(',').map((p) => p.trim()) ?? []
  const bearer = offered.find((p) => p.startsWith('bearer.'))
  let claims = null
  try {
    claims = bearer && verify(bearer.slice(7))
  } catch {
    claims = null
  }
  if (!claims) {
    tcp.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n')
    return
  }
  sockets.handleUpgrade(request, tcp, head, (socket) => {
    socket.user = claims.sub
    socket.status = 'online'
    socket.id = `c_${randomUUID()}`
    socket.openedAt = Date.now()
    socket.on('message', onMessage)
    socket.on('close', onClose)
    say(socket, { type: 'welcome', connectionId: socket.id, user: socket.user, serverAt: socket.openedAt })
  })
})

server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 })
