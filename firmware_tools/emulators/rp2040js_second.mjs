// SPDX-License-Identifier: Apache-2.0
// The RP2040's second core, which rp2040js does not have: another core over the same memory, the FIFOs between the two, and
// what the boot ROM does with it: from reset on it waits for its vectors, stack pointer and start (datasheet, 2.8.2).

const CPUID = 0x00, FIFO_ST = 0x50, FIFO_WR = 0x54, FIFO_RD = 0x58, DIVIDER = 0x60; // in SIO
const PSM = 0x40010, FRCE_OFF = 4, PROC1 = 1 << 16;
const FIFO_WORDS = 8, ROM_EXPECTS = [0, 0, 1], ROM_WORDS = 6;
const LONG = 100; // words after which one that does not last stops

export class SecondCore {
  awake = false; // executes instructions
  running = false; // the instruction under way is this core's
  #first;
  #never;
  #fault;
  #heard = []; // by the ROM
  #fifos = [[], []]; // to the first core, to this one
  #words = 0; // from the first core

  // never: as in the options; fault: says what went wrong, where it did, and ends all.
  constructor(chip, CortexM0Core, never, fault) {
    this.core = new CortexM0Core(chip);
    this.#first = chip.core;
    this.#never = never;
    this.#fault = fault;
    this.#answerInSio(chip.sio);
    this.#obeyPsm(chip.peripherals[PSM]);
  }

  // The instruction SEV, of either core.
  sendEvent() {
    for (const core of [this.#first, this.core]) core.eventRegistered = true;
  }

  // An instruction, but where it waits for an event.
  step() {
    const { core } = this;
    if (core.waiting) {
      if (!core.eventRegistered) return;
      core.waiting = core.eventRegistered = false;
    }
    this.running = true;
    core.executeInstruction();
    this.running = false;
  }

  #answerInSio(sio) {
    const { readUint32, writeUint32 } = sio;
    const mine = () => this.#fifos[this.running ? 1 : 0], others = () => this.#fifos[this.running ? 0 : 1];
    sio.readUint32 = (offset) => {
      if (offset === CPUID) return this.running ? 1 : 0;
      if (offset === FIFO_ST) return (mine().length ? 1 : 0) | (others().length < FIFO_WORDS ? 2 : 0);
      if (offset === FIFO_RD) return mine().length ? mine().shift() : this.#fault('an empty FIFO was read');
      if (offset >= DIVIDER && this.running) this.#fault(`SIO's register ${offset} is not emulated`);
      return readUint32.call(sio, offset);
    };
    sio.writeUint32 = (offset, value) => {
      if (offset !== FIFO_WR) return writeUint32.call(sio, offset, value);
      if (others().length === FIFO_WORDS) this.#fault('a full FIFO was written');
      if (this.running || this.#heard.length === ROM_WORDS) others().push(value);
      else this.#romHears(value);
      if (!this.running && ++this.#words > LONG && this.#never.includes('core1-for-long')) this.awake = false;
    };
  }

  #romHears(word) {
    if (this.#never.includes('core1')) return;
    this.#fifos[0].push(word);
    if (this.#heard.length < ROM_EXPECTS.length && word !== ROM_EXPECTS[this.#heard.length]) {
      this.#heard = word === 0 ? [0] : [];
    } else {
      this.#heard.push(word);
    }
    if (this.#heard.length < ROM_WORDS) return;
    const { core } = this;
    [core.VTOR, core.SP, core.PC] = this.#heard.slice(ROM_EXPECTS.length);
    core.PC &= ~1;
    this.awake = true;
  }

  #obeyPsm(psm) {
    const { writeUint32 } = psm;
    psm.writeUint32 = (offset, value) => {
      const before = psm.frceOff;
      writeUint32.call(psm, offset, value);
      if (offset === FRCE_OFF && (before ^ value) & PROC1) this.#reset(value & PROC1);
    };
  }

  #reset(off) {
    this.awake = false;
    this.core.waiting = this.core.eventRegistered = false;
    this.#heard = [];
    this.#fifos[1].length = 0;
    if (!off && !this.#never.includes('core1')) this.#fifos[0].push(0); // it is ready
  }
}
