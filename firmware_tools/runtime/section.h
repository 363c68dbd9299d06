/* SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
/* Where constants and buffers lie in an image, so that the build can count them apart. Hosts keep their own sections. */
#ifndef EDGE_SECTION_H
#define EDGE_SECTION_H

#if defined(__ELF__)
#define EDGE_SECTION(name) __attribute__((section(name)))
#else
#define EDGE_SECTION(name)
#endif

#define EDGE_WEIGHTS EDGE_SECTION(".weights")       /* constants: flash, or copied to RAM at start */
#define EDGE_VOCABULARY EDGE_SECTION(".vocabulary") /* constants: flash */
#define EDGE_ABOUT __attribute__((used)) EDGE_SECTION(".about") /* constants: flash, behind the vectors */
#define EDGE_NOINIT EDGE_SECTION(".noinit")         /* RAM that is never cleared */
#define EDGE_FAST EDGE_SECTION(".fast")             /* code of a port that lies where kernels do: flash, or copied to RAM */

#endif
