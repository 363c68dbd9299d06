// SPDX-License-Identifier: Apache-2.0
// rp2040js's clock as cycles of clk_sys, which may change its speed; rp2040js.mjs counts them up.

export const cyclesOf = (SimulationClock) => class Cycles extends SimulationClock {
  now = 0; // cycles so far
  due = Infinity; // the cycle of the next alarm
  #since = 0; // the cycle from which on one takes #nanosACycle, and when that was
  #sinceNanos = 0;
  #nanosACycle = 1e9 / 6.5e6;

  get nanos() {
    return this.#sinceNanos + (this.now - this.#since) * this.#nanosACycle;
  }

  setSpeed(hz) {
    this.#sinceNanos = this.nanos;
    this.#since = this.now;
    this.#nanosACycle = 1e9 / hz;
    this.#schedule();
  }

  linkAlarm(nanos, alarm) {
    super.linkAlarm(nanos, alarm);
    this.#schedule();
    return alarm;
  }

  unlinkAlarm(alarm) {
    const found = super.unlinkAlarm(alarm);
    this.#schedule();
    return found;
  }

  // Rings the alarms that are due.
  ring() {
    while (this.nextAlarm && this.now >= this.due) {
      const alarm = this.nextAlarm;
      this.nextAlarm = alarm.next;
      this.#schedule();
      alarm.callback();
    }
  }

  skip(milliseconds) {
    const cycles = Math.round((milliseconds * 1e6) / this.#nanosACycle);
    this.now = Math.min(this.now + cycles, this.due);
  }

  get millisecondsToAlarm() {
    return ((this.due - this.now) * this.#nanosACycle) / 1e6;
  }

  #schedule() {
    const { nextAlarm } = this;
    this.due = nextAlarm
      ? this.#since + Math.ceil((nextAlarm.nanos - this.#sinceNanos) / this.#nanosACycle - 1e-6)
      : Infinity;
  }
};
