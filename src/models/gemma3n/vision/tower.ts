import { Module } from "../../../nn/module.ts";
import type { Gemma3nVisionConfig } from "../vision-config.ts";
import { MobileNetV5Encoder } from "./mobilenet-v5.ts";

/** The encoder under the name that HF's wrapper of timm's models gives it. */
export class Gemma3nVisionTower extends Module {
  readonly timm_model: MobileNetV5Encoder;

  constructor({ tower }: Gemma3nVisionConfig) {
    super();
    this.timm_model = new MobileNetV5Encoder(tower);
  }
}
