// SPDX-License-Identifier: Apache-2.0
// Runs a flash content on rp2040js's RP2040; its serial port is this program's stdin and stdout.
//
//     node rp2040js.mjs FOLDER OPTIONS
//
// FOLDER is that of the npm package, OPTIONS a JSON object: see rp2040js.py, which starts this. What goes wrong is said
// on stderr, and ends the program with 1; the end of stdin ends it with 0.
//
// One instruction takes one cycle of clk_sys, so that cycles are instructions, always the same ones. While the core
// sleeps, time passes as it does outside. The package is more lenient than a chip, and in three things wrong; so here
// blocks in reset do not answer, a UART at another speed is not understood, misaligned accesses fault; and a masked
// interrupt ends WFI without being taken, SysTick counts what it should, PLATFORM says that this is no silicon.

import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { cyclesOf } from './rp2040js_clock.mjs';
import { SecondCore } from './rp2040js_second.mjs';

const [folder, told] = process.argv.slice(2);
const options = JSON.parse(told);
const part = (name) => import(pathToFileURL(path.join(folder, 'dist', 'esm', name)).href);
const { RP2040, USBCDC, GPIOPinState } = await part('index.js');
const { CortexM0Core } = await part('cortex-m0-core.js');
const { SimulationClock } = await part('clock/simulation-clock.js');

const FLASH = 0x10000000, RAM = 0x20000000, BOOT2_AT = 0x20041f00, BOOT2_BYTES = 252;
const BATCH = 200_000; // instructions between two looks at stdin, some 10 ms
const LONGEST_SLEEP_MS = 10;
const BAUD = 115200, BAUD_TOLERANCE = 0.025; // what a receiver of 8 bits can bear, shared between both ends

function stop(message) {
  fs.writeSync(2, `${message}\n`);
  process.exit(1);
}

const hex = (number) => `0x${(number >>> 0).toString(16).padStart(8, '0')}`;

const clock = new (cyclesOf(SimulationClock))();
const chip = new RP2040(clock);
const { core } = chip;
chip.clkSys = chip.clkPeri = 0; // so that the first setting is a change
chip.addClockListener((hz) => clock.setSpeed(hz));
chip.updateClocks();

const here = () => {
  const { core } = second?.running ? second : chip;
  return `at ${hex(core.PC - 2)}${core === chip.core ? '' : ' on the second core'}`;
};
const fault = (message) => stop(`${message}, ${here()}`);
let second;
const refuse = (name, message) => {
  if (name === 'RP2040' || name === 'CortexM0Core') fault(message);
};
const info = (name, message) => {
  if (message === 'SEV') second.sendEvent();
};
chip.logger = { debug() {}, info, warn: refuse, error: (name, message) => fault(message) };
console.warn = () => {}; // some of the package's own go there
second = new SecondCore(chip, CortexM0Core, options.never, fault);

// --- memory, faster than the package's and stricter

const flash16 = new Uint16Array(chip.flash.buffer), flash32 = new Uint32Array(chip.flash.buffer);
const ram16 = new Uint16Array(chip.sram.buffer), ram32 = new Uint32Array(chip.sram.buffer);
const RAM_BYTES = chip.sram.length, FLASH_BYTES = chip.flash.length;

function misaligned(what, address) {
  fault(`a misaligned ${what} of ${hex(address)}`);
}

function fastMemory(core) {
  core.readUint16 = (address) => {
    if (address & 1) misaligned('read', address);
    const inFlash = address - FLASH, inRam = address - RAM;
    if (inFlash >= 0 && inFlash < FLASH_BYTES) return flash16[inFlash >> 1];
    if (inRam >= 0 && inRam < RAM_BYTES) return ram16[inRam >> 1];
    return chip.readUint16(address);
  };
  core.readUint32 = (address) => {
    address >>>= 0;
    if (address & 3) misaligned('read', address);
    const inFlash = address - FLASH, inRam = address - RAM;
    if (inFlash >= 0 && inFlash < FLASH_BYTES) return flash32[inFlash >> 2];
    if (inRam >= 0 && inRam < RAM_BYTES) return ram32[inRam >> 2];
    if (core === second.core && address >>> 12 === 0xe000e) fault(`not emulated: ${hex(address)}`);
    return chip.readUint32(address);
  };
  core.writeUint16 = (address, value) => {
    if (address & 1) misaligned('write', address);
    chip.writeUint16(address, value);
  };
  core.writeUint32 = (address, value) => {
    address >>>= 0;
    if (address & 3) misaligned('write', address);
    const inRam = address - RAM;
    if (inRam >= 0 && inRam < RAM_BYTES) ram32[inRam >> 2] = value;
    else if (address >= FLASH && address < FLASH + 0x04000000) fault(`a write to flash at ${hex(address)}`);
    else chip.writeUint32(address, value);
  };
}

// --- the core's own peripherals

function wakes(core) {
  return (core.pendingInterrupts & core.enabledInterrupts) !== 0 || core.pendingSystick || core.pendingNMI;
}

function maskInterrupts(core) {
  const take = core.checkForInterrupts.bind(core);
  core.checkForInterrupts = () => {
    if (!core.PM) return take();
    core.interruptsUpdated = false;
    return wakes(core);
  };
}

const SYST_CSR = 0x10, SYST_RVR = 0x14, SYST_CVR = 0x18;

// Counts cycles down from RVR to 0 and begins anew; the package loses one cycle in each round.
function countWithSysTick() {
  const { ppb } = chip;
  const read = ppb.readUint32.bind(ppb), write = ppb.writeUint32.bind(ppb);
  let csr = 0, reload = 0, since = 0;
  ppb.readUint32 = (offset) => {
    if (offset === SYST_CSR) return csr;
    if (offset === SYST_RVR) return reload;
    if (offset !== SYST_CVR) return read(offset);
    const period = reload + 1;
    return csr & 1 ? (period - ((clock.now - since) % period)) % period : 0;
  };
  ppb.writeUint32 = (offset, value) => {
    if (offset === SYST_CSR) {
      if (value & 2) stop('SysTick has no interrupt here');
      if (value & ~csr & 1) since = clock.now;
      csr = value & 5;
    } else if (offset === SYST_RVR) {
      reload = value & 0xffffff;
    } else if (offset === SYST_CVR) {
      since = clock.now;
    } else {
      write(offset, value);
    }
  };
}

// --- blocks that are in reset after power-on, and what never gets ready where the options say so

const RESETS = { // bit in RESETS, by the block's address (RP2040 datasheet, 2.14.3)
  0x40000: 19, 0x40004: 18, 0x40014: 5, 0x4001c: 8, 0x40028: 12, 0x4002c: 13, 0x40034: 22, 0x40038: 23, 0x40054: 21,
  0x50110: 24,
};
const IN_RESET = 0x01ffffff & ~((1 << 6) | (1 << 9) | (1 << 18)); // the boot ROM uses IO_QSPI, PADS_QSPI and SYSCFG

function beInReset() {
  const resets = chip.peripherals[0x4000c];
  resets.reset = IN_RESET;
  const read = resets.readUint32.bind(resets);
  resets.readUint32 = (offset) => (offset === 8 ? ~resets.reset & 0x01ffffff : read(offset));
  for (const [address, bit] of Object.entries(RESETS)) {
    const block = chip.peripherals[address];
    for (const access of ['readUint32', 'writeUint32']) {
      const answer = block[access].bind(block);
      block[access] = (offset, value) => {
        if ((resets.reset >>> bit) & 1) fault(`${block.name} is in reset`);
        return answer(offset, value);
      };
    }
  }
}

function answerOtherwise(block, register, change) {
  const read = block.readUint32.bind(block);
  block.readUint32 = (offset) => (offset === register ? change(read(offset)) : read(offset));
}

function never(names) {
  const [pll, xosc] = [chip.pllSys, chip.peripherals[0x40024]];
  const off = 0x21; // PWR: PD and VCOPD
  answerOtherwise(pll, 0, (cs) => (pll.pwr & off || names.includes('pll') ? cs & 0x7fffffff : cs));
  if (names.includes('xosc')) answerOtherwise(xosc, 4, (status) => status & 0x7fffffff);
  answerOtherwise(chip.peripherals[0x40000], 4, () => 0); // PLATFORM: neither ASIC nor FPGA
}

// --- the serial port

const sent = [];
let wake = () => {}; // ends a sleep

function flush() {
  if (sent.length) process.stdout.write(Buffer.from(sent.splice(0)));
}

process.on('SIGINT', () => {}); // Ctrl-C in a terminal comes here too; who started this ends it by its stdin

function received(feed) {
  process.stdin.on('data', (bytes) => {
    for (const byte of bytes) feed(byte);
    wake();
  });
  process.stdin.on('end', () => {
    report();
    process.exit(0);
  });
}

class Input { // as a FIFO of the package, but bytes wait in it as long as they must
  #bytes = [];
  #at = 0;
  full = false;
  get empty() { return this.#at === this.#bytes.length; }
  get itemCount() { return this.#bytes.length - this.#at; }
  push(byte) { this.#bytes.push(byte); }
  peek() { return this.empty ? 0 : this.#bytes[this.#at]; }
  pull() {
    if (this.empty) return 0;
    const byte = this.#bytes[this.#at++];
    if (this.empty) this.#bytes.length = this.#at = 0;
    return byte;
  }
}

function useUart() {
  const uart = chip.uart[0];
  const rate = () => {
    if (!uart.enabled || !uart.txEnabled || !uart.rxEnabled) return 'is off';
    if (uart.lineCtrlRegister !== 0x70) return `has the format ${hex(uart.lineCtrlRegister)}`;
    if (chip.gpio[0].functionSelect !== 2 || chip.gpio[1].functionSelect !== 2) return 'has no pins';
    if (!chip.clocks.periFreq) return 'has no clock';
    return Math.abs(uart.baudRate / BAUD - 1) > BAUD_TOLERANCE ? `has ${uart.baudRate} baud` : '';
  };
  uart.rxFIFO = new Input();
  uart.onByte = (byte) => {
    const wrong = rate();
    if (wrong) stop(`the UART ${wrong}`);
    sent.push(byte);
  };
  received((byte) => {
    const wrong = rate();
    if (!wrong) uart.feedByte(byte); // else nothing is understood
  });
}

// The package's host sends an empty packet every 10 us when it has nothing to say, so that the firmware never sleeps;
// here it waits until it has, as hosts do.
function useUsb() {
  const usb = chip.usbCtrl, cdc = new USBCDC(usb);
  const take = usb.onEndpointRead;
  let room = 0; // bytes that the firmware waits for
  cdc.txFIFO = new Input();
  usb.onEndpointRead = (endpoint, size) => {
    if (endpoint === cdc.outEndpoint && cdc.txFIFO.empty) room = size;
    else take(endpoint, size);
  };
  cdc.onSerialData = (bytes) => { for (const byte of bytes) sent.push(byte); };
  received((byte) => {
    cdc.sendSerialByte(byte);
    const asked = room;
    room = 0;
    if (asked) setImmediate(() => { take(cdc.outEndpoint, asked); wake(); }); // when all that came is there
  });
}

// What is at the other end is in a module of its own (the tests' USB host).
async function useModule(path) {
  const end = () => { report(); process.exit(0); };
  (await import(pathToFileURL(path).href)).default({ chip, clock, wake: () => wake(), end });
}

// --- pins

const edges = [];
let gates = 0, stepped = 0, raised = 0; // gates that are high, instructions while one was, when the first was raised

function watchPins() {
  chip.gpio.forEach((pin, index) => {
    let before = false;
    pin.addListener((state) => {
      const high = state === GPIOPinState.High;
      if (high === before) return;
      before = high;
      if (edges.length < 10_000) edges.push([index, high ? 1 : 0, clock.now]);
      if (!options.gates.includes(index)) return;
      if (high && gates++ === 0) raised = clock.now;
      if (!high && --gates === 0) stepped += clock.now - raised;
    });
  });
}

// --- start, as the boot ROM does

function boot() {
  const content = fs.readFileSync(options.flash);
  chip.flash.set(content.subarray(0, FLASH_BYTES));
  let crc = 0xffffffff;
  for (const byte of chip.flash.subarray(0, BOOT2_BYTES)) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc & 0x80000000 ? 0x04c11db7 : 0);
  }
  if (crc >>> 0 !== flash32[BOOT2_BYTES / 4]) stop('the boot ROM finds no second stage: its CRC-32 is wrong');
  chip.sram.set(chip.flash.subarray(0, BOOT2_BYTES), BOOT2_AT - RAM);
  core.SP = BOOT2_AT;
  core.LR = 0;
  core.PC = BOOT2_AT;
}

// --- life

const passes = [];

function runBatch() {
  const end = clock.now + BATCH;
  const watched = options.watch && new Set(options.watch);
  while (clock.now < end) {
    const until = Math.min(end, clock.due);
    if (watched) {
      while (clock.now < Math.min(until, clock.due) && !core.waiting) {
        if (gates && watched.has(core.PC)) passes.push([core.PC, stepped + clock.now - raised]);
        core.executeInstruction();
        if (second.awake) second.step();
        clock.now++;
      }
    } else {
      while (clock.now < until && clock.now < clock.due && !core.waiting) {
        core.executeInstruction();
        if (second.awake) second.step();
        clock.now++;
      }
    }
    clock.ring();
    if (core.waiting) {
      if (!wakes(core)) return false;
      core.waiting = false;
    }
  }
  return true;
}

function sleep() {
  const longest = Math.min(clock.millisecondsToAlarm, LONGEST_SLEEP_MS), began = performance.now();
  const timer = setTimeout(() => wake(), longest);
  wake = () => {
    wake = () => {};
    clearTimeout(timer);
    clock.skip(Math.min(performance.now() - began, longest));
    clock.ring();
    live();
  };
}

function live() {
  const busy = runBatch();
  flush();
  if (busy) setImmediate(live);
  else sleep();
}

function report() {
  flush();
  if (!options.report) return;
  const facts = { clk_sys_hz: chip.clkSys, clk_peri_hz: chip.clocks.periFreq, baud: chip.uart[0].baudRate };
  fs.writeFileSync(options.report, JSON.stringify({ ...facts, cycles: clock.now, edges, passes }));
}

for (const each of [core, second.core]) {
  fastMemory(each);
  maskInterrupts(each);
}
countWithSysTick();
never(options.never);
beInReset();
watchPins();
if (options.port === 'usb') useUsb();
else if (options.port.endsWith('.mjs')) await useModule(options.port);
else useUart();
boot();
live();
