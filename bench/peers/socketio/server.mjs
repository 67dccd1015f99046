// The job on Socket.IO: authenticate by JWT in a middleware, rooms of its own, acknowledgements, one emit per change.
// As its "performance tuning" page advises, WebSocket only and the first HTTP request is dropped; nothing is compressed.
//
//   node server.mjs PORT SECRET
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { verify } from '../jwt.mjs'

const [port, secret] = process.argv.slice(2)
const http = createServer()
const io = new Server(http, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
})
let version = 0

const member = (socket) => ({
  user: socket.data.user,
  status: socket.data.status,
  epoch: '1',
  version: ++version,
  joinedAt: socket.data.openedAt,
  metas: [{ connectionId: socket.id, meta: {} }],
})

const presence = (socket) => ({
  user: socket.data.user,
  status: socket.data.status,
  epoch: '1',
  version: ++version,
  changedAt: Date.now(),
})

/** Whoever is in a room now: one node, so that the adapter knows them all. */
function membersOf(room) {
  const { rooms } = io.sockets.adapter
  return Array.from(rooms.get(room) ?? [], (id) => member(io.sockets.sockets.get(id)))
}

// The handlers are shared: a closure per connection would cost memory.
function onJoin(room, answer) {
  this.join(room)
  answer({ type: 'room', room, members: membersOf(room) })
  this.to(room).emit('room', { type: 'room', room, joins: [member(this)] })
}

function onWatch(users, answer) {
  for (const user of users) this.join(`watch:${user}`)
  answer({ type: 'snapshot', users: users.map((user) => ({ user, status: 'online' })), complete: true })
}

function onState(availability, answer) {
  this.data.status = availability === 'active' ? 'online' : availability
  for (const room of this.rooms) {
    if (room === this.id || room.startsWith('watch:')) continue
    io.to(room).emit('room', { type: 'room', room, updates: [member(this)] })
  }
  io.to(`watch:${this.data.user}`).emit('presence', { type: 'presence', changes: [presence(this)] })
  answer({ type: 'ok' })
}

function onDisconnecting() {
  for (const room of this.rooms) {
    if (room === this.id || room.startsWith('watch:')) continue
    this.to(room).emit('room', { type: 'room', room, leaves: [member(this)] })
  }
}

io.engine.on('connection', (raw) => {
  raw.request = null
})

io.use((socket, next) => {
  const claims = verify(socket.handshake.auth.token ?? '', secret)
  if (!claims) return next(new Error('unauthorized'))
  socket.data = { user: claims.sub, status: 'online', openedAt: Date.now() }
  next()
})

io.on('connection', (socket) => {
  socket.on('join', onJoin)
  socket.on('watch', onWatch)
  socket.on('state', onState)
  socket.on('disconnecting', onDisconnecting)
})

http.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 })
