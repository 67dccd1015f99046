// The job on Bun's own WebSocket server: authenticate by JWT, rooms are topics, a change is one publish.
// The messages are those of the peer `ws`. Topics do not say who subscribes, so rooms also have a set of sockets.
//
//   bun server.mjs PORT SECRET
import { randomUUID } from 'node:crypto'
import { verify } from '../jwt.mjs'

const [port, secret] = process.argv.slice(2)
const rooms = new Map() // name -> Set of sockets
let version = 0

const member = ({ data }) => ({
  user: data.user,
  status: data.status,
  epoch: '1',
  version: ++version,
  joinedAt: data.openedAt,
  metas: [{ connectionId: data.id, meta: {} }],
})

const presence = ({ data }) => ({
  user: data.user,
  status: data.status,
  epoch: '1',
  version: ++version,
  changedAt: Date.now(),
})

const say = (socket, message) => socket.send(JSON.stringify(message))
const tell = (topic, message) => server.publish(topic, JSON.stringify(message))

function join(socket, { id, room }) {
  let members = rooms.get(room)
  if (!members) rooms.set(room, (members = new Set()))
  members.add(socket)
  ;(socket.data.rooms ??= new Set()).add(room)
  socket.subscribe(`room:${room}`)
  say(socket, { type: 'room', id, room, members: Array.from(members, member) })
  socket.publish(`room:${room}`, JSON.stringify({ type: 'room', room, joins: [member(socket)] }))
}

function watch(socket, { id, users }) {
  for (const user of users) socket.subscribe(`user:${user}`)
  say(socket, { type: 'snapshot', id, users: users.map((user) => ({ user, status: 'online' })), complete: true })
}

function state(socket, { id, availability }) {
  socket.data.status = availability === 'active' ? 'online' : availability
  for (const room of socket.data.rooms ?? []) tell(`room:${room}`, { type: 'room', room, updates: [member(socket)] })
  tell(`user:${socket.data.user}`, { type: 'presence', changes: [presence(socket)] })
  say(socket, { type: 'ok', id })
}

const handlers = { join, watch, state }

const server = Bun.serve({
  port: Number(port),
  hostname: '127.0.0.1',
  fetch(request, server) {
    const offered = request.headers.get('sec-websocket-protocol')?.split(',').map((p) => p.trim()) ?? []
    const bearer = offered.find((p) => p.startsWith('bearer.'))
    const claims = bearer && verify(bearer.slice(7), secret)
    if (!claims) return new Response('', { status: 401 })
    const data = { user: claims.sub, status: 'online', id: `c_${randomUUID()}`, openedAt: Date.now() }
    const headers = { 'Sec-WebSocket-Protocol': 'stillhere.v1' }
    return server.upgrade(request, { data, headers }) ? undefined : new Response('', { status: 400 })
  },
  websocket: {
    perMessageDeflate: false,
    open(socket) {
      const { id, user, openedAt } = socket.data
      say(socket, { type: 'welcome', connectionId: id, user, serverAt: openedAt })
    },
    message(socket, text) {
      const message = JSON.parse(text)
      handlers[message.type]?.(socket, message)
    },
    close(socket) {
      for (const room of socket.data.rooms ?? []) {
        const members = rooms.get(room)
        members.delete(socket)
        if (members.size) tell(`room:${room}`, { type: 'room', room, leaves: [member(socket)] })
        else rooms.delete(room)
      }
    },
  },
})
