/** Types of AssemblyScript as TypeScript sees them in `abi.ts`, which both compile. */
declare type i32 = number;
declare type usize = number;
