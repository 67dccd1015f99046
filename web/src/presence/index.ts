export { PresenceClient } from "./client";
export type { ConnectionState, PresenceClientOptions, PresenceEvent, Token } from "./types";
export type { Origin, PresenceDifference, RoomDifference } from "./book";
export { followPage } from "./page";
export type { Availability, Member, Status, UserPresence } from "./protocol";
export { claimTab, followTab, type TabStorage } from "./tab";
