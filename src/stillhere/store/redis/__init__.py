"""The store on Redis or Valkey: the rules as a Lua function library, and how to reach them."""
