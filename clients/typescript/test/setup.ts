import { EventEmitter } from "node:events";

// Node warns of more than ten listeners on one AbortSignal; a client follows about that many events of its page.
EventEmitter.defaultMaxListeners = 50;
