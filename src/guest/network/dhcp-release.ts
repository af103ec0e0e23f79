// Giving a guest's DHCP lease back in its name, once it is gone: RFC 2131, section 4.4.4.
import { createSocket } from 'node:dgram';
import { isIPv4 } from 'node:net';

export interface DhcpLease {
  address: string;
  mac: string;
  /** The server that gave it. */
  server: string;
}

const SERVER_PORT = 67;
const MAGIC_COOKIE = 0x63825363;
const BOOTREQUEST = 1;
const ETHERNET = 1;
const MESSAGE_TYPE = 53;
const DHCPRELEASE = 7;
const SERVER_IDENTIFIER = 54;
const END = 255;
/** BOOTP's least message; some servers drop shorter ones. */
const LEAST_BYTES = 300;

/** The message. Pure.
 * @param transaction four arbitrary bytes as a number */
export function dhcpReleaseMessage({ address, mac, server }: DhcpLease, transaction: number): Buffer {
  const message = Buffer.alloc(LEAST_BYTES);
  message.set([BOOTREQUEST, ETHERNET, 6, 0], 0);
  message.writeUInt32BE(transaction >>> 0, 4);
  message.set(bytesOf(address), 12);
  message.set(
    mac.split(':').map((byte) => Number.parseInt(byte, 16)),
    28,
  );
  message.writeUInt32BE(MAGIC_COOKIE, 236);
  message.set([MESSAGE_TYPE, 1, DHCPRELEASE, SERVER_IDENTIFIER, 4, ...bytesOf(server), END], 240);
  return message;
}

/** Sends it to the server. There is no answer to it, so nothing is waited for; and a lease that stays runs
 * out by itself, so nothing that goes wrong matters. */
export function sendDhcpRelease(lease: DhcpLease, port = SERVER_PORT): Promise<void> {
  return new Promise((resolve) => {
    if (!isIPv4(lease.server) || !isIPv4(lease.address)) return resolve();
    const socket = createSocket('udp4');
    const done = () => {
      socket.close();
      resolve();
    };
    socket.once('error', done);
    socket.send(dhcpReleaseMessage(lease, Math.floor(Math.random() * 2 ** 32)), port, lease.server, done);
  });
}

const bytesOf = (address: string) => address.split('.').map(Number);
